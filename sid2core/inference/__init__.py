"""A trained model, and how samples are drawn from it."""
