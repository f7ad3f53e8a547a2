"""Which files are videos, by their names, and what else they are by their first bytes."""

from __future__ import annotations

import os
from typing import BinaryIO

from sid2core.data.decode import formats

PICTURES = frozenset({".gif", ".webp", ".apng"})
"""Animated pictures: Pillow reads them."""
EXTENSIONS = PICTURES | {
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "f4v", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "mxf", "ogm", "ogv", "qt", "ts", "vob", "webm", "wmv", "y4m"),
    )
}
"""Names that videos usually have, in lower case."""
_OTHER = (formats.OTHER | formats.EXTENSIONS) - EXTENSIONS
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_BOX = 8


def name_problem(name: str) -> str | None:
    """Why a file of this name is not a video, or None if its content has to decide."""
    extension = os.path.splitext(name)[1].lower()
    return f"not a video by its name: {extension}" if extension in _OTHER else None


def is_usual(name: str) -> bool:
    """Whether videos usually have such a name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so is of a format of (animated) pictures."""
    webp = start.startswith(b"RIFF") and start[8:12] == b"WEBP"
    return webp or start.startswith((b"GIF8", b"\x89PNG\r\n\x1a\n"))


def other(start: bytes) -> str | None:
    """What a file that begins so is instead of a video, where that can be seen."""
    if not start:
        return "the file is empty"
    if start.startswith(_APPLE_DOUBLE):
        return "AppleDouble: what macOS stores beside another file, not a video"
    return None


def lacks_index(file: BinaryIO) -> bool:
    """Whether ``file`` is in the MP4 or QuickTime format, but has no index (``moov`` atom).

    The index is often written last, so an interrupted recording or download lacks it.
    """
    place, names = 0, list[bytes]()
    while True:
        file.seek(place)
        head = file.read(_BOX + 8)
        if len(head) < _BOX:
            break
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:  # the size follows in 64 bits
            size = int.from_bytes(head[8:16], "big")
        names.append(name)
        if size < _BOX or name == b"moov":  # 0 is up to the end of the file
            break
        place += size
    return bool(names) and names[0] == b"ftyp" and b"moov" not in names
