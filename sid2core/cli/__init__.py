"""The command ``sid2``."""
