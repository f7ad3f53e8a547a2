"""Files that stand where data or weights should be: Git LFS pointers and saved web pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from sid2core.errors import Sid2Error

START = 256
"""Bytes of a file's beginning that are enough to recognise one."""
POINTER = (
    "a Git LFS pointer, not the file itself: run `git lfs pull` where it comes from, or download "
    "the file"
)
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head)\b", re.I | re.S
)


def recognised(start: bytes) -> str | None:
    """What a file that begins with ``start`` is instead of data, with the cure, or None."""
    if is_pointer(start):
        return POINTER
    if _PAGE.match(start):
        return "a saved web page (HTML), not the file itself: download the file that it links to"
    return None


def is_pointer(start: bytes) -> bool:
    """Whether a file that begins with ``start`` is a Git LFS pointer; for text, where HTML fits."""
    return start.startswith(_LFS)


def check(file: BinaryIO, path: str | Path, error: type[Sid2Error]) -> None:
    """Refuse a file that stands where data should be; ``file`` is read from its beginning.

    Raises:
        Sid2Error: of the class ``error``: it is a Git LFS pointer or a web page.
    """
    file.seek(0)
    other = recognised(file.read(START))
    if other is not None:
        raise error(f"{path} is {other}")


def check_file(path: Path, error: type[Sid2Error], expected: str = "") -> None:
    """The same of the file at ``path``, if there is one; ``expected`` ends the message.

    Raises:
        Sid2Error: as :func:`check`.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        other = recognised(file.read(START))
    if other is not None:
        raise error("; ".join(filter(None, [f"{path} is {other}", expected])))
