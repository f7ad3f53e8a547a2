"""The error of this package."""

from sid2core.errors import Sid2Error


class TextError(Sid2Error):
    """Captions or a text encoder cannot be used; the message says what was expected."""
