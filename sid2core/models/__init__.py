"""The Residual U-ViT and what it costs."""
