"""The one error that this package raises for what it cannot measure."""

from sid2core.errors import Sid2Error


class MetricsError(Sid2Error):
    """Something cannot be measured or compared; the message tells the cure."""
