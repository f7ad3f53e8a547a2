"""From a picture of any size to the target size: the named crop modes.

``adm``: halve with a box filter while both sides are at least twice the target, bicubic until the
    target is just covered, cut out the centre. For a square target these are the very bytes of
    ADM's preprocessing (guided-diffusion, arXiv 2105.05233), which ImageNet's published FIDs
    stand on: rows are filtered before columns, as they were by the Pillow of that time (Pillow 13
    begins with columns where the height shrinks more). It alone makes what it then cuts off, so
    only here a strip can be too long.
``centre``: one antialiased bicubic resize that just covers the target and keeps its centre, cut
    where torchvision's ``Resize`` and ``CenterCrop`` cut it.
``squash``: one antialiased bicubic resize that ignores the proportions.

Sides are (width, height), as Pillow has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from PIL import Image

from sid2core.data.errors import Unusable

_BOX, _BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def _adm(picture: Image.Image, width: int, height: int, max_pixels: int) -> Image.Image:
    while picture.width >= 2 * width and picture.height >= 2 * height:
        picture = _halved(picture)
    scale = max(width / picture.width, height / picture.height)
    wide, high = (round(side * scale) for side in picture.size)
    if wide * high > max_pixels:
        msg = f"too long: it would have {wide}x{high} pixels before the crop to {width}x{height}"
        raise Unusable(f"{msg}, more than data.max_pixels {max_pixels}")
    picture = _resized(picture, 0, wide, (wide - width) // 2, width)
    return _resized(picture, 1, high, (high - height) // 2, height)


def _resized(picture: Image.Image, axis: int, whole: int, start: int, length: int) -> Image.Image:
    """``length`` pixels from ``start`` of what ``picture`` is when resized to ``whole``, one axis.

    The others need not be made where the filter's arithmetic is exact: where the scale is a whole
    number of 512ths, so are the edges of what is kept, and Pillow holds them in 24 bits.
    """
    side, size, box = picture.size[axis], list(picture.size), [0.0, 0.0, *picture.size]
    if 512 * side % whole == 0 and side < 1 << 14:
        size[axis] = length
        box[axis], box[axis + 2] = start * side / whole, (start + length) * side / whole
        return picture.resize((size[0], size[1]), _BICUBIC, (box[0], box[1], box[2], box[3]))
    size[axis] = whole
    picture = picture.resize((size[0], size[1]), _BICUBIC)
    edges = [0, 0, *picture.size]
    edges[axis], edges[axis + 2] = start, start + length
    return picture.crop((edges[0], edges[1], edges[2], edges[3]))


def _halved(picture: Image.Image) -> Image.Image:
    """``picture.resize((w // 2, h // 2), BOX)``, rows first, to the bit and twice as fast.

    That rounds means of two along rows, then along columns. So does ``reduce``, one direction at
    a time; where a side is odd, the filter's weights are no halves.
    """
    width, height = (side // 2 for side in picture.size)
    if picture.width % 2:
        picture = picture.resize((width, picture.height), _BOX)
    else:
        picture = picture.reduce((2, 1))
    return picture.resize((width, height), _BOX) if picture.height % 2 else picture.reduce((1, 2))


def _centre(picture: Image.Image, width: int, height: int, max_pixels: int) -> Image.Image:
    wide = max(width, height * picture.width // picture.height)
    high = max(height, width * picture.height // picture.width)
    left, top = round((wide - width) / 2), round((high - height) / 2)
    # The box that becomes the target; what lies outside is read by the filter, never resized.
    across, down = picture.width / wide, picture.height / high
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return picture.resize((width, height), _BICUBIC, box)


def _squash(picture: Image.Image, width: int, height: int, max_pixels: int) -> Image.Image:
    return picture.resize((width, height), _BICUBIC)


class Crop(NamedTuple):
    """A crop mode: ``cut(picture, width, height, max_pixels)``, and its filter in words."""

    cut: Callable[[Image.Image, int, int, int], Image.Image]
    filter: str


CROPS: Mapping[str, Crop] = {
    "adm": Crop(_adm, "box halving, then bicubic"),
    "centre": Crop(_centre, "bicubic"),
    "squash": Crop(_squash, "bicubic"),
}
"""By name, as in ``data.crop``. They raise Unusable for what would need too much memory."""
