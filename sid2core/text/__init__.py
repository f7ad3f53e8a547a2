"""Text encoders: from captions to tokens, and from tokens to vectors."""
