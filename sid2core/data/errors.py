"""The errors of this package: one stops the stage, the other sets a single image aside."""

from sid2core.errors import Sid2Error


class DataError(Sid2Error):
    """Images, labels or shards cannot be used as they stand; the message names the cure."""


class Unusable(Exception):
    """One image cannot be used; the message is the reason that the rejects give for it.

    A reason names neither folders nor addresses, so that equal data give equal rejects anywhere.
    """
