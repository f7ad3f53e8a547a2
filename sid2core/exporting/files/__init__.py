"""Programs that are copied into exported folders; they run there without this project."""
