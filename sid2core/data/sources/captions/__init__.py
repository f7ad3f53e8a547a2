"""Captions in files: how they are encoded, which fields hold them, which image they belong to."""
