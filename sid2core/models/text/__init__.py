"""The networks of text encoders."""
