"""Files that need nothing of this project."""
