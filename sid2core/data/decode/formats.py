"""Which formats are read, and how a file's beginning decides which one it is."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

from PIL import ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sid2core import stand_ins
from sid2core.data.errors import Unusable

EXTENSIONS = frozenset(
    f".{name}"
    for name in [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "apng",
        "webp",
        "bmp",
        "dib",
        "gif",
        "tif",
        "tiff",
        "jp2",
        "j2k",
        "j2c",
        "jpx",
        "jpf",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
        "avif",
        "avifs",
        "heic",
        "heif",
        "hif",
    ]
)
"""Names that images usually have, in lower case."""
ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, PPM, AVIF, HEIC"
"""What is read, for messages."""
OTHER = frozenset(
    f".{name}"
    for name in [
        "7z",
        "arrow",
        "avi",
        "bz2",
        "c",
        "cfg",
        "css",
        "csv",
        "db",
        "doc",
        "docx",
        "eps",
        "exe",
        "gz",
        "h5",
        "htm",
        "html",
        "ini",
        "ipynb",
        "js",
        "json",
        "jsonl",
        "lnk",
        "log",
        "md",
        "mkv",
        "mov",
        "mp3",
        "mp4",
        "msg",
        "npy",
        "npz",
        "parquet",
        "pdf",
        "pkl",
        "pt",
        "pth",
        "py",
        "rar",
        "rst",
        "safetensors",
        "sh",
        "svg",
        "tar",
        "tcl",
        "tgz",
        "theme",
        "toml",
        "tsv",
        "txt",
        "url",
        "wav",
        "webm",
        "xls",
        "xlsx",
        "xml",
        "xz",
        "yaml",
        "yml",
        "zip",
        "zst",
    ]
)
"""Names that files of other kinds have; content decides about all the rest."""

_Opener = Callable[[BinaryIO], ImageFile.ImageFile]
_START = max(64, stand_ins.START)
_PPM = tuple(b"P%d%c" % (kind, end) for kind in range(1, 7) for end in b" \t\r\n#")
_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_LIBRARIES = {"libtiff": "libtiff", "openjpeg": "jpg_2000", "libavif": "avif"}


def _heif(file: BinaryIO) -> ImageFile.ImageFile:
    try:
        plugin = importlib.import_module("pillow_heif")
    except ImportError:
        msg = "a HEIC picture, which takes one more package: pip install pillow-heif"
        raise Unusable(msg) from None
    picture: ImageFile.ImageFile = plugin.HeifImageFile(file)
    return picture


_FORMATS: Mapping[tuple[bytes, ...], _Opener] = {
    (b"\xff\xd8\xff",): JpegImageFile,
    (b"\x89PNG\r\n\x1a\n",): PngImageFile,
    (b"RIFF",): WebPImageFile,
    (b"BM",): BmpImageFile,
    (b"GIF8",): GifImageFile,
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"): TiffImageFile,
    (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"): Jpeg2KImageFile,
    _PPM: PpmImageFile,
}
"""By what a file begins with. ``Image.open`` would bring in a limit that is the process's."""


def name_problem(name: str) -> str | None:
    """Why a file of this name is not an image, or None if its content has to decide."""
    extension = os.path.splitext(name)[1].lower()
    return f"not an image by its name: {extension}" if extension in OTHER else None


def is_usual(name: str) -> bool:
    """Whether images usually have such a name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_known(file: BinaryIO) -> bool:
    """Whether ``file`` begins like an image of a known format."""
    return _opener(file.read(_START)) is not None


def opened(file: BinaryIO) -> ImageFile.ImageFile:
    """The picture in ``file``, of which no more than the header is read.

    Raises:
        Unusable: it is of none of the formats.
    """
    file.seek(0)
    start = file.read(_START)
    open_ = _opener(start)
    if open_ is not None:
        file.seek(0)
        return open_(file)
    if not start:
        msg = "the file is empty"
        raise Unusable(msg)
    other = stand_ins.recognised(start)
    raise Unusable(other or f"no image of a known format ({ACCEPTED})")


def versions() -> dict[str, str]:
    """The versions of the libraries that read further formats, where Pillow has them."""
    found = {name: features.version(feature) for name, feature in _LIBRARIES.items()}
    return {name: version for name, version in found.items() if version is not None}


def _opener(start: bytes) -> _Opener | None:
    brands = _brands(start)
    if brands & _AVIF:
        return AvifImageFile
    if brands & _HEIF:
        return _heif
    return next((open_ for marks, open_ in _FORMATS.items() if start.startswith(marks)), None)


def _brands(start: bytes) -> frozenset[bytes]:
    """The major and the compatible brands of a file in the ISO base media format."""
    if start[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return frozenset({start[8:12], *(start[at : at + 4] for at in range(16, end, 4))})
