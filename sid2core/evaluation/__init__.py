"""Drawing samples and measuring them."""
