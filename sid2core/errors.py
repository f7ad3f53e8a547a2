"""The one ancestor of every error that a user can cure, and how names are written in messages."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

_NAMES, _LENGTH = 5, 80


class Sid2Error(Exception):
    """Something a user can put right; the message says what was found, expected, and the cure.

    A stage that ends with one prints the message alone. Any other exception is a defect of the
    program and keeps its traceback.
    """


def printable(text: str) -> str:
    """``text`` with control characters, line ends and undecodable bytes as escape sequences.

    Names of files and classes come from outside: printed as they are, they could move the cursor
    or look like another line.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def message(error: Exception) -> str:
    """The text of an error for a terminal: line ends stay, other control characters are escaped."""
    return "\n".join(printable(line) for line in str(error).split("\n"))


def few(names: Iterable[object], limit: int = _NAMES) -> str:
    """The first names of a list for a message, printable and cut, with "…" if there are more."""
    first = list(itertools.islice(names, limit + 1))
    shown = [printable(_cut(str(name))) for name in first[:limit]]
    return ", ".join([*shown, *(["…"] if len(first) > limit else [])])


def of_system(error: OSError) -> str | None:
    """One line for a full disk or a missing permission; None for any other error of the system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error}: make room, then the same command goes on where it can"
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or error.filename is None:
        return None
    place = Path(os.fsdecode(error.filename)).absolute()
    if not os.path.lexists(place) or os.access(place, os.R_OK | os.W_OK):
        place = place.parent  # it was to be created or removed in this folder
    while not os.path.lexists(place):
        place = place.parent
    needed = os.R_OK | os.X_OK if place.is_dir() else os.R_OK
    what = "writable" if os.access(place, needed) else "readable"
    return (
        f"{printable(str(place))} is not {what} ({error.strerror}); "
        "change its permissions, or use a copy of your own"
    )


def _cut(name: str) -> str:
    return name if len(name) <= _LENGTH else f"{name[: _LENGTH - 1]}…"
