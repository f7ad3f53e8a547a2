"""The interactive page: one process that draws from named models for browsers on this machine."""
