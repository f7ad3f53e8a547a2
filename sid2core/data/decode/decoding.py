"""From an image file to raw pixels of one size: what happens to every picture, in this order.

1. The content, not the name, decides the format (:mod:`sid2core.data.decode.formats`); of an
   animation and of several pages the first counts.
2. A picture of more than ``max_pixels`` is refused by what its header says, and a WebP or GIF of
   more than 179 million in any case.
3. It is decoded. What ends too early is refused; damage that a decoder conceals (in the middle of
   a JPEG's data, say) cannot be seen from here. With ``jpeg: scaled`` libjpeg reduces by 2, 4 or 8
   as it decodes, as long as both sides stay twice the target. That moves values by 0.3 of 255 in
   the mean (53 dB; ``python -m benchmarks.prepare``), and those of the crop ``adm`` down by half a
   level for each halving that it is spared, since ADM's halving rounds up.
4. Depth, colour profile and alpha: :mod:`sid2core.data.decode.colours`.
5. EXIF orientation is applied. An EXIF block that cannot be read turns nothing.
6. Resize and crop: :mod:`sid2core.data.decode.crops`.

Memory is bounded by ``max_pixels``: at most 16 bytes a pixel of most pictures, 24 of WebP and 40
of 16-bit PNG, beside the file itself of a WebP, AVIF or HEIC and the image that is made. Before its
size is known a GIF may claim 180 MB for its first frame, and a PNG 64 MB for its text.

libtiff prints a line of its own to stderr about a damaged TIFF.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, features
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from sid2core import config
from sid2core.data.decode import colours, formats
from sid2core.data.decode.crops import CROPS
from sid2core.data.errors import Unusable
from sid2core.data.sources.protocol import Content

# Text changes no pixel: a picture may carry as much in one chunk as in all of them (64 MiB).
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = (5, 6, 7, 8)
_DEEP = ("I", "I;16", "I;16L", "I;16B")
"""Pillow's modes of grey with more than 8 bits."""
_CHANNELS = ((), (3,), (4,))
_GREY_STEPS = {"L;2": 85, "L;4": 17}
_REASON = 200
_BLOCK = 1 << 20
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class Recipe:
    """How every picture of a source becomes an image; see ``params.yaml`` for the choices.

    Raises:
        DataError: ``background`` is no colour.
    """

    height: int
    width: int
    channels: int
    crop: str
    background: str
    jpeg: str
    max_pixels: int

    def __post_init__(self) -> None:
        colours.parsed(self.background)

    @classmethod
    def of(cls, data: config.Data) -> Recipe:
        """As the parameters say; ``image_size`` and ``channels`` must be there."""
        assert data.sides is not None  # config.Data has checked it
        assert data.channels is not None
        return cls(
            *data.sides, data.channels, data.crop, data.background, data.jpeg, data.max_pixels
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """[h, w, c] of every image."""
        return (self.height, self.width, self.channels)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """All choices by name, and the libraries whose decoders and filters made the pixels."""
        return {
            "crop": self.crop,
            "filter": CROPS[self.crop].filter,
            "background": "#{:02x}{:02x}{:02x}".format(*colours.parsed(self.background)),
            "jpeg": self.jpeg,
            "orientation": "exif",
            "animation": "first frame",
            **colours.FACTS,
            "pillow": PIL.__version__,
            "libjpeg_turbo": features.version("libjpeg_turbo"),
            "littlecms": features.version("littlecms2"),
            "webp": features.version("webp"),
            **formats.versions(),
        }

    def image(self, file: BinaryIO) -> Content:
        """The picture in ``file``, which can seek, as uint8 [height, width, channels].

        Raises:
            Unusable: it is no whole image within the limits.
            OSError: reading failed for a reason that is not the file's own.
        """
        with blaming_the_file():
            picture, size = self._decoded(file)
            return Content(self._cut(picture), size)

    def of_array(self, array: NDArray[Any]) -> Content:
        """The same of a picture that is an array [h, w] or [h, w, c] of 1, 3 or 4 (RGBA) channels.

        Raises:
            Unusable: it is not such an array, or not within the limits.
        """
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in _CHANNELS:
            msg = f"{array.dtype} of shape {array.shape}; expected uint8 [h, w] or [h, w, 1|3|4]"
            raise Unusable(msg)
        self.check(array.shape[1], array.shape[0])
        with blaming_the_file():
            picture = self._flat(Image.fromarray(array), None)
            return Content(self._cut(picture), picture.size)

    def _decoded(self, file: BinaryIO) -> tuple[Image.Image, tuple[int, int]]:
        """The upright picture in its final colours, and its size before any reduction."""
        image = formats.opened(file)
        self.check(*image.size)
        width, height = image.size
        depth = _depth(image)
        if isinstance(image, JpegImageFile):
            _check_end(file)
            if self.jpeg == "scaled":
                on_its_side = _turn(image) in _ON_THEIR_SIDE
                target = (2 * self.width, 2 * self.height)
                image.draft(None, target[::-1] if on_its_side else target)
        image.load()
        turn, profile = _turn(image), image.info.get("icc_profile")
        picture = _eight_bits(image, depth, file)
        del image  # so that its pixels go as soon as others take their place
        picture = self._flat(picture, profile)
        if turn in _TURNS:
            picture = picture.transpose(_TURNS[turn])
        return picture, (height, width) if turn in _ON_THEIR_SIDE else (width, height)

    def check(self, width: int, height: int) -> None:
        """Refuse pictures of so many pixels, where these are too many or none.

        Raises:
            Unusable: they are.
        """
        if not width or not height:
            msg = f"no pixels: {width}x{height}"
            raise Unusable(msg)
        if width * height > self.max_pixels:
            msg = f"{width}x{height} pixels are more than data.max_pixels {self.max_pixels}"
            raise Unusable(msg)

    def _flat(self, picture: Image.Image, profile: bytes | None) -> Image.Image:
        background = colours.parsed(self.background)
        return colours.flat(picture, colours.MODES[self.channels], background, profile)

    def _cut(self, picture: Image.Image) -> NDArray[np.uint8]:
        cut = CROPS[self.crop].cut(picture, self.width, self.height, self.max_pixels)
        return np.array(cut).reshape(self.shape)


class Decoded:
    """What sources of pictures have in common: a recipe for the images."""

    recipe: Recipe

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The choices that every picture is read by."""
        return self.recipe.metadata

    @property
    def shape(self) -> tuple[int, ...]:
        """[h, w, c] as the parameters have it."""
        return self.recipe.shape


def _check_end(file: BinaryIO) -> None:
    """Refuse a JPEG that has no end mark after where ``file`` stands, at the start of its scans.

    libjpeg makes grey of zeros that stand for what a crash or a broken download has lost.
    """
    start = file.tell()
    file.seek(-len(_JPEG_END), os.SEEK_END)
    if file.read() == _JPEG_END:
        return
    file.seek(start)
    last = b""
    while block := file.read(_BLOCK):
        if _JPEG_END in last + block:
            return
        last = block[-1:]
    msg = "truncated: the data have no end mark"
    raise Unusable(msg)


def _depth(image: ImageFile.ImageFile) -> str:
    """How PNG stores its pixels, in Pillow's words; nothing for other formats."""
    return str(image.tile[0].args) if isinstance(image, PngImageFile) and image.tile else ""


def _eight_bits(image: ImageFile.ImageFile, depth: str, file: BinaryIO) -> Image.Image:
    """The decoded ``image``, with what Pillow leaves undone for PNG of fewer and more bits."""
    clear = image.info.get("transparency")
    if depth in _GREY_STEPS and clear is not None:  # levels are spread over a byte, this is not
        step = _GREY_STEPS[depth]
        image.info["transparency"] = clear % (255 // step + 1) * step
    if image.mode in _DEEP:
        return colours.narrowed(_sixteen_bits(image), clear)
    if image.mode == "F":
        msg = "pixels are floating-point numbers; expected integers of 8 or 16 bits"
        raise Unusable(msg)
    if not depth.endswith(";16B"):
        return image
    # Pillow keeps only the high bytes of colours. Declared little-endian, they give the low
    # bytes; grey with alpha, declared as RGBA of bytes, gives all four bytes.
    if depth == "LA;16B":
        four = _read_as("RGBA", file)
        high, low = four[..., 0::2], four[..., 1::2]
    else:
        high, low = np.asarray(image), _read_as(depth[:-1] + "L", file)
    return colours.narrowed(high.astype(np.uint16) << 8 | low, clear)


def _sixteen_bits(image: Image.Image) -> NDArray[np.uint16]:
    """Grey levels [h, w] of one of the modes ``_DEEP``.

    Raises:
        Unusable: a level has more than 16 bits.
    """
    levels = np.asarray(image)
    if image.mode == "I" and levels.size and not 0 <= levels.min() <= levels.max() < 2**16:
        msg = f"levels of {levels.min()} to {levels.max()}; expected 8 or 16 bits"
        raise Unusable(msg)
    return levels.astype(np.uint16)


def _read_as(depth: str, file: BinaryIO) -> NDArray[np.uint8]:
    file.seek(0)
    image = PngImageFile(file)
    image.tile = [tile._replace(args=depth) for tile in image.tile]
    return np.asarray(image)


def _turn(image: Image.Image) -> int:
    """EXIF's orientation; 1, which is upright, where there is none that makes sense."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # whatever a damaged block makes the parser raise
        return 1


class _Hushed:
    """Inside, decoders' warnings are not shown: oddities that change no pixel are not worth a line.

    Filters are the process's, so of several threads the first to enter sets and the last restores.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_HUSHED = _Hushed()


@contextlib.contextmanager
def blaming_the_file() -> Iterator[None]:
    """Decoders meet arbitrary bytes here and raise what they like; all of it is :class:`Unusable`.

    Only what the system reports (an ``OSError`` with a number, memory) is not the file's fault.
    """
    try:
        with _HUSHED:
            yield
    except (Unusable, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unusable(reason[:_REASON]) from error
