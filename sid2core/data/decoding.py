"""From an image file to raw pixels of one size: the preprocessing of ADM.

1. The file's content, not its name, tells the format; of an animation the first frame counts.
2. EXIF orientation is applied. An EXIF block that cannot be read turns nothing.
3. Alpha is composed over white, 16 bits become 8, and the rest is Pillow's plain conversion to RGB
   or grey (ITU-R 601-2 luma), without colour profiles.
4. Crop ``adm`` (guided-diffusion, arXiv 2105.05233): halve with a box filter while the short side
   is at least twice the target, bicubic to the short side, cut out the centre.

Memory is that of one picture before and after a step: Pillow refuses more than 89 million pixels,
and so does step 4 for what it would make of a very long strip.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from sid2core import config
from sid2core.data.errors import Unusable
from sid2core.data.records import Content

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
"""Files that count as images, in lower case."""
FACTS: Mapping[str, str] = MappingProxyType(
    {
        "crop": "adm",
        "orientation": "exif",
        "alpha": "over white",
        "animation": "first frame",
        "pillow": PIL.__version__,
    }
)
"""The choices above by name, and the library whose decoders and filters made the pixels."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
_MODES = {1: "L", 3: "RGB"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_THE_FILES_OWN = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR}


@dataclass(frozen=True)
class Recipe:
    """How every picture of a source becomes an image; see ``params.yaml`` for the choices."""

    height: int
    width: int
    channels: int
    crop: str
    background: str
    jpeg: str
    max_pixels: int

    @classmethod
    def of(cls, data: config.Data) -> Recipe:
        """As the parameters say; ``image_size`` and ``channels`` must be there."""
        size = data.image_size
        height, width = size if isinstance(size, list) else (size, size)
        assert height is not None  # config.Data has seen to it
        assert width is not None
        assert data.channels is not None
        return cls(
            height, width, data.channels, data.crop, data.background, data.jpeg, data.max_pixels
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """[h, w, c] of every image."""
        return (self.height, self.width, self.channels)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The choices by name, and the library whose decoders and filters made the pixels."""
        return FACTS

    def image(self, file: BinaryIO) -> Content:
        """The picture in ``file`` as uint8 [height, width, channels].

        Raises:
            Unusable: it is no whole image within the limits.
            OSError: reading failed for a reason that is not the file's own.
        """
        picture = _decoded(file, _MODES[self.channels])
        return Content(square(picture, self.height), picture.size)


def square(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize and crop an 8-bit picture as ADM does, to [size, size, channels].

    Raises:
        Unusable: it has no pixel, or is so long that it would exceed Pillow's limit once resized.
    """
    if not min(picture.size):
        msg = f"no pixels: {picture.width}x{picture.height}"
        raise Unusable(msg)
    while min(picture.size) >= 2 * size:
        width, height = picture.size
        picture = picture.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        msg = f"too long: it would have {width}x{height} pixels before the crop to {size}x{size}"
        raise Unusable(msg)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - size) // 2, (width - size) // 2
    cut = resized[top : top + size, left : left + size]
    return cut.reshape(size, size, -1).copy()


def _decoded(file: BinaryIO, mode: str) -> Image.Image:
    """The file's picture, upright and of ``mode``.

    Decoders meet arbitrary bytes here and raise what they like; only what the system reports
    (an ``OSError`` with a number, memory) is not the file's fault.
    """
    try:
        with warnings.catch_warnings():
            # Oddities that change no pixel, such as a damaged EXIF tag, are not worth a line each.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                image.load()
                return _flat(_upright(image), mode)
    except UnidentifiedImageError:
        msg = f"no image of a known format ({', '.join(_FORMATS)})"
        raise Unusable(msg) from None
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unusable(reason) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # whatever a damaged block makes the parser raise
        turn = None
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """Without alpha, 8 bits, of ``mode``; u16 becomes round(u16 / 257)."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        clear = image.info.get("transparency")
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
        if isinstance(clear, int):
            image.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
