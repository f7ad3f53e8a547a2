"""From bytes to captions."""

from __future__ import annotations

import codecs
from typing import Any

from sid2core import stand_ins
from sid2core.data.errors import Unusable

LIMIT = 2**20
"""Bytes of one caption's file at most."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # begins like UTF-16's, so it comes first
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ZEROS = 0.3
"""A share of zero bytes, at even or at odd places, that only UTF-16 has."""


def decoded(content: bytes) -> str:
    r"""Text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; UTF-16 also without one.

    Line ends are ``\n``. Other encodings (latin-1, Shift-JIS …) cannot be told apart, so they are
    refused.

    Raises:
        Unusable: it is in another encoding, no text, or a Git LFS pointer.
    """
    if stand_ins.is_pointer(content):
        raise Unusable(stand_ins.POINTER)
    mark = next((one for one in _MARKS if content.startswith(one)), b"")
    encoding = _MARKS.get(mark) or _unmarked(content)
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[len(mark) :][error.start]:02x} at {error.start}"
        msg = f"no {encoding.upper()} text ({found}), perhaps latin-1: save it as UTF-8"
        raise Unusable(msg) from None
    if "\0" in text:
        msg = "no text: it contains zero bytes; save it as UTF-8"
        raise Unusable(msg)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def of_file(content: bytes, *, lines: bool) -> tuple[str, ...]:
    """The caption in a text file, without white space around it; of ``lines``, one a line.

    An empty file is the empty caption.

    Raises:
        Unusable: it is too large, or as :func:`decoded`.
    """
    if len(content) > LIMIT:
        msg = f"more than {LIMIT} bytes of caption"
        raise Unusable(msg)
    text = decoded(content).strip()
    if not lines:
        return (text,)
    return tuple(line.strip() for line in text.split("\n") if line.strip()) or ("",)


def of_value(value: Any) -> tuple[str, ...] | None:
    """The captions in a field: a text, a list of texts, or nothing; None of any other value.

    Raises:
        Unusable: a text has half a surrogate pair.
    """
    values = value if isinstance(value, (list, tuple)) else [value]
    texts = [one for one in values if one is not None]
    if not all(isinstance(one, str) for one in texts):
        return None
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            msg = "its caption is no text: it has half a surrogate pair"
            raise Unusable(msg) from None
    return tuple(texts)


def _unmarked(content: bytes) -> str:
    """UTF-8, unless every other byte is often zero."""
    half = len(content) // 2
    for first, encoding in enumerate(("utf-16-be", "utf-16-le")):
        if half and content[first::2].count(0) > _ZEROS * half:
            return encoding
    return "utf-8"
