"""What parameters must have in common, checked before any work starts."""

from sid2core.config.checks.parameters import check

__all__ = ["check"]
