"""Files that stand where data should be: Git LFS pointers and saved web pages."""

from __future__ import annotations

import re
from typing import BinaryIO

from sid2core.data.errors import DataError

START = 256
"""Bytes of a file's beginning that are enough to recognise one."""
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head)\b", re.I | re.S
)


def recognised(start: bytes) -> str | None:
    """What a file that begins with ``start`` is instead of data, with the cure, or None."""
    if start.startswith(_LFS):
        return "a Git LFS pointer, not the file itself: run `git lfs pull` where it comes from"
    if _PAGE.match(start):
        return "a saved web page (HTML), not the file itself: download the file that it links to"
    return None


def check(file: BinaryIO, path: str) -> None:
    """Refuse a file that stands where data should be.

    Raises:
        DataError: it is a Git LFS pointer or a web page.
    """
    file.seek(0)
    other = recognised(file.read(START))
    if other is not None:
        msg = f"{path} is {other}"
        raise DataError(msg)
