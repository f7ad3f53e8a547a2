"""Simpler Diffusion (SiD2): pixel-space diffusion on JAX as a declarative DVC pipeline."""
