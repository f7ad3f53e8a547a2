"""Clips: sets of them that are measured, and how near predicted frames come to real ones."""
