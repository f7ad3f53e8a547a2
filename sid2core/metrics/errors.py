"""The error of this package."""

from sid2core.errors import Sid2Error


class MetricsError(Sid2Error):
    """Something cannot be measured or compared; the message names the cure."""
