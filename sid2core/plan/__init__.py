"""What a model costs, before a second of training."""
