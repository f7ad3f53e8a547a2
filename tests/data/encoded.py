"""Image files that Pillow does not write, byte by byte, and colour profiles."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's colour types by channels."""
ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""Top, left and steps (down, across) of the passes of an interlaced PNG."""


def saved(image, form, **options):
    """The bytes of a Pillow image or of an array, as Pillow writes them."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind, content):
    """A chunk of PNG."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(levels, bits=8, colour=None, interlaced=False, chunks=()):
    """PNG of levels [h, w, c] of so many bits; ``chunks`` come before the data."""
    levels = np.asarray(levels).reshape(*np.shape(levels)[:2], -1)
    height, width, channels = levels.shape
    colour = COLOURS[channels] if colour is None else colour
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    passes = [levels[top::down, left::across] for top, left, down, across in ADAM7]
    rows = [row for part in (passes if interlaced else [levels]) for row in part if row.size]
    data = zlib.compress(b"".join(b"\0" + packed(row, bits) for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*one) for one in chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def packed(row, bits):
    """Levels [w, c] as bytes: big-endian, or several a byte, the first one highest."""
    if bits >= 8:
        return row.astype(f">u{bits // 8}").tobytes()
    binary = (row.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1
    return np.packbits(binary.ravel().astype(np.uint8)).tobytes()


def bmp_rle(levels):
    """BMP of 8 bits, run-length encoded, with a palette that turns grey to colours."""
    data = b"".join(b"".join(bytes([1, level]) for level in row) + b"\0\0" for row in levels[::-1])
    data += b"\0\1"
    palette = b"".join(bytes([level, 255 - level, level // 2, 0]) for level in range(256))
    height, width = levels.shape
    start = 14 + 40 + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return head + info + palette + data


SRGB_TONES = b"para" + struct.pack(
    ">IHH5i",
    0,
    3,
    0,
    *(round(65536 * one) for one in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)),
)
"""ICC's parametric curve of type 3: the sRGB tone curve."""
LINEAR_TONES = struct.pack(">4sII", b"curv", 0, 0)
SRGB_PRIMARIES = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)
"""XYZ of red, green and blue, adapted to D50."""
D50 = (0.96420, 1.0, 0.82491)


def xyz(values):
    """An ICC tag of one XYZ colour."""
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * one) for one in values))


def profile(space, tags, connection=b"XYZ ", kind=b"mntr"):
    """An ICC profile (version 2) of these tags: name to bytes."""
    tags = {b"wtpt": xyz(D50), b"cprt": b"text\0\0\0\0none\0", **tags}
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(">4sI4s4s4s", b"\0\0\0\0", 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + xyz(D50)[8:] + bytes(48)
    whole = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole) + 4) + whole


def rgb_profile(tones, primaries=SRGB_PRIMARIES):
    """A profile of a display: light is ``primaries @ tones(level)``."""
    tags = {
        name + b"XYZ": xyz(one) for name, one in zip((b"r", b"g", b"b"), primaries, strict=True)
    }
    return profile(b"RGB ", tags | {name + b"TRC": tones for name in (b"r", b"g", b"b")})


def grey_profile(tones):
    """A profile of grey."""
    return profile(b"GRAY", {b"kTRC": tones})


def ink_profile():
    """A profile of a strange press: ``L* = 100 (255 - black) / 255``, whatever the other inks."""
    identity = [65536, 0, 0, 0, 65536, 0, 0, 0, 65536]
    ramp = bytes(range(256))
    corners = b"".join(bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *identity)
    table += 4 * ramp + corners + 3 * ramp
    return profile(b"CMYK", {b"A2B0": table}, connection=b"Lab ", kind=b"prtr")
