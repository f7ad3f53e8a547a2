"""Moment-matching distillation (arXiv 2406.04103)."""
