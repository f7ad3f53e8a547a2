"""How fast this project is, beside PyTorch: run as modules from the project's root."""
