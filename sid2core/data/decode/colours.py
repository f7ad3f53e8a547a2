"""From any kind of picture to 8-bit grey or RGB: depth, colour profile, alpha, in this order.

Sixteen bits become ``round(u / 257)``. An ICC profile is applied (perceptual intent), and from then
on the picture is sRGB; a profile that is damaged or of another colour space than the picture is
ignored. Without one colours stay as they are: RGB and grey are taken for sRGB, PNG's ``gAMA`` and
``cHRM`` are not looked at, and CMYK becomes ``(255 - ink)(255 - black) / 255``. Then alpha is
composed over the background, and grey is the luma of ITU-R 601-2.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor

from sid2core.data.errors import DataError

FACTS: Mapping[str, str] = {
    "sixteen_bits": "round(u / 257)",
    "profile": "ICC to sRGB, perceptual; ignored where damaged or of another colour space",
    "no_profile": "taken for sRGB; CMYK by (255 - ink)(255 - black) / 255",
    "luma": "ITU-R 601-2",
}
"""The choices above by name."""
MODES: Mapping[int, str] = {1: "L", 3: "RGB"}
"""Pillow's name for a picture of so many channels."""

Colour = tuple[int, int, int]

_PLAIN = {"1": "L", "LA": "L", "P": "RGB", "RGBA": "RGB"}
"""What colours of a mode are without alpha, palette and bits; others are it already."""
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_PROFILES_KEPT = 16


@functools.lru_cache(1)
def parsed(background: str) -> Colour:
    """A colour by its name, or as #rrggbb.

    Raises:
        DataError: it is neither.
    """
    colour: tuple[int, ...] = ()
    with contextlib.suppress(ValueError):
        colour = ImageColor.getrgb(background)
    if len(colour) != 3:  # no colour, or one with alpha
        msg = f"data.background is {background!r}; expected a colour's name or #rrggbb"
        raise DataError(f"{msg}, such as white or #808080: set it to one")
    return colour[0], colour[1], colour[2]


def flat(image: Image.Image, mode: str, background: Colour, profile: bytes | None) -> Image.Image:
    """A picture of 8 bits as sRGB of ``mode`` (L or RGB), without alpha."""
    alpha = None
    plain = _PLAIN.get(image.mode, image.mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if image.mode != plain:
        image = image.convert(plain)
    to_srgb = _to_srgb(profile, plain) if profile else None
    if to_srgb is not None:
        image = to_srgb(image)
    if alpha is not None:
        ground = Image.new("RGB", image.size, background)
        ground.paste(image, mask=alpha)
        image = ground
    return image if image.mode == mode else image.convert(mode)


def narrowed(levels: NDArray[Any], clear: object) -> Image.Image:
    """A picture of u16 [h, w] or [h, w, c] as one of bytes; of two or four c the last is alpha.

    ``clear`` is the level, or the c levels, that PNG has declared transparent, if any.
    """
    eight = np.empty(levels.shape, np.uint8)
    for row, deep in zip(eight, levels, strict=True):  # one at a time: sums take up four bytes
        row[...] = (deep.astype(np.uint32) + 128) // 257
    image = Image.fromarray(eight)
    if clear is not None:
        same = levels == np.asarray(clear)
        seen = ~same if same.ndim == 2 else ~same.all(axis=-1)
        image.putalpha(Image.fromarray(seen).convert("L"))
    return image


@functools.lru_cache(_PROFILES_KEPT)
def _to_srgb(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """What turns a picture of ``mode`` into sRGB (grey stays grey); None where nothing needs to.

    Most profiles that pictures carry describe sRGB in other words. Such a one is found out by
    trying it on the colours of a lattice: it moves none of them by more than a level.
    """
    # LittleCMS's tables for speed are coarse in the darks of grey, and of 256 levels needless.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, target, mode, "RGB", flags=flags)
    except (OSError, ValueError):  # all that Pillow makes of LittleCMS's errors
        return None
    if mode == "CMYK":
        return transform.apply
    lattice = _lattice(mode)
    before, after = (np.asarray(one, int) for one in (lattice, transform.apply(lattice)))
    if mode == "L":
        after = after[..., 1]
    if np.abs(after - before).max() <= 1:
        return None
    return transform.apply if mode == "RGB" else lambda image: image.point(after[0].tolist())


def _lattice(mode: str) -> Image.Image:
    levels = np.arange(256, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(levels[None])
    steps = levels[::15]  # 18 of them, both ends included
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return Image.fromarray(colours.reshape(len(steps), -1, 3))
