"""A trained model in the terms of other libraries."""
