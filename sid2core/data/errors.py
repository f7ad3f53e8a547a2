"""The one error that this package raises for data it cannot use."""

from sid2core.stage import StageError


class DataError(StageError):
    """Images, labels or shards cannot be used as they stand; the message tells the cure."""
