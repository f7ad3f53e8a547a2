"""The cost of a model and its training, computed before training."""
