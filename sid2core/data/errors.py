"""The one error that this package raises for data it cannot use."""

from sid2core.errors import Sid2Error


class DataError(Sid2Error):
    """Images, labels or shards cannot be used as they stand; the message tells the cure."""
