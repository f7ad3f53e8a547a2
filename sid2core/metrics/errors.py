"""The one error that this package raises for what it cannot measure."""

from sid2core.stage import StageError


class MetricsError(StageError):
    """Something cannot be measured or compared; the message tells the cure."""
