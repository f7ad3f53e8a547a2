"""From JPEG files to images of 64 and 256 pixels: ours, plain Pillow, PyTorch, and decoding alone.

    python -m benchmarks.prepare --rounds 15

The pictures are 500 x 400, made from a seed with the spectrum of photographs, at quality 90 and in
memory. Each contender takes one after the other on one core and leaves arrays of uint8 [h, w, 3];
those of decoding alone are 400 x 500. How far reduced decoding is from the exact one is noted too.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from benchmarks import common
from benchmarks.common import Contender, Work
from sid2core.data.decode.crops import CROPS
from sid2core.data.decode.decoding import Recipe
from tests.data import encoded, pictures

IMAGES = 32
SIZES = (64, 256)
REFERENCE = "decoding alone"
OURS = {
    "ours, adm": {"crop": "adm", "jpeg": "exact"},
    "ours, adm, scaled": {"crop": "adm", "jpeg": "scaled"},
    "ours, centre": {"crop": "centre", "jpeg": "exact"},
}
THEIRS = {
    "Pillow, adm as published": "pillow_adm",
    "Pillow, bicubic": "pillow_bicubic",
    "Pillow, Lanczos": "pillow_lanczos",
    "PyTorch, bilinear": "pytorch",
}

Levels = NDArray[np.uint8]


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=15)
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    results, metadata = {}, {}
    for size in SIZES:
        field = [Contender(REFERENCE, "benchmarks.prepare:decoding", {})]
        field += [
            Contender(name, "benchmarks.prepare:ours", {"size": size, **choices})
            for name, choices in OURS.items()
        ]
        field += [
            Contender(name, f"benchmarks.prepare:{function}", {"size": size})
            for name, function in THEIRS.items()
        ]
        names = [REFERENCE, *common.chosen([one.name for one in field[1:]], options.only)]
        field = [one for one in field if one.name in names]
        seconds, found = common.race(field, options.rounds, options.threads)
        rows = common.summary(seconds, REFERENCE)
        for row in rows.values():
            row |= {"images_per_second": IMAGES / row["median"], "utilisation": 1 / row["ratio"]}
        common.show(f"to {size} x {size}, ms for {IMAGES} images", rows, REFERENCE)
        apart = {crop: scaled_differs(size, crop) for crop in CROPS}
        results[f"{size} x {size}"] = {"contenders": rows, "exact_above_scaled": apart}
        metadata |= found
    metadata |= {"threads": options.threads, "images": IMAGES, "bytes": sum(map(len, files()))}
    common.write("prepare", metadata, results)


@functools.cache
def files() -> tuple[bytes, ...]:
    """The pictures as JPEG files."""
    levels = (pictures.photograph(400, 500, seed) for seed in range(IMAGES))
    return tuple(encoded.saved(one, "JPEG", quality=90) for one in levels)


def scaled_differs(size: int, crop: str) -> dict[str, float]:
    """How many levels (of 255) exact decoding is above scaled decoding, and that as noise in dB."""
    exact, scaled = (
        np.stack([_recipe(size, crop, jpeg).image(io.BytesIO(file)).image for file in files()])
        for jpeg in ("exact", "scaled")
    )
    apart = exact.astype(float) - scaled
    found = {
        "mean": apart.mean(),
        "mean_absolute": np.abs(apart).mean(),
        "most": np.abs(apart).max(),
    }
    if apart.any():
        found["psnr"] = 10 * np.log10(255**2 / np.square(apart).mean())
    return {name: round(float(value), 3) for name, value in found.items()}


def describe() -> dict[str, Any]:
    """What the work runs on."""
    versions = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}
    torch: Any = sys.modules.get("torch")
    return {"platform": "cpu", **versions} | ({"torch": torch.__version__} if torch else {})


def ours(size: int, crop: str, jpeg: str) -> Work:
    """What ``prepare`` does to a file."""
    recipe = _recipe(size, crop, jpeg)
    return _each(lambda file: recipe.image(io.BytesIO(file)).image)


def decoding() -> Work:
    """Pillow's decoder, and its pixels as an array."""
    return _each(lambda file: np.asarray(_rgb(file)))


def pillow_adm(size: int) -> Work:
    """ADM's preprocessing as its authors wrote it: the same bytes as ours."""

    def work(file: bytes) -> Levels:
        picture = _rgb(file)
        while min(picture.size) >= 2 * size:
            half = (picture.width // 2, picture.height // 2)
            picture = picture.resize(half, Image.Resampling.BOX)
        return _resized_and_cut(picture, size, Image.Resampling.BICUBIC)

    return _each(work)


def pillow_bicubic(size: int) -> Work:
    """Resize the shorter side at once, and cut out the centre."""
    return _each(lambda file: _resized_and_cut(_rgb(file), size, Image.Resampling.BICUBIC))


def pillow_lanczos(size: int) -> Work:
    """The same by the filter that many take for the best."""
    return _each(lambda file: _resized_and_cut(_rgb(file), size, Image.Resampling.LANCZOS))


def pytorch(size: int) -> Work:
    """As torchvision does: floats, antialiased bilinear on the shorter side, centre."""
    import torch  # the other contenders do without

    torch.set_num_threads(1)

    def work(file: bytes) -> Levels:
        picture = _rgb(file)
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255
        high, wide = _short_side(picture.height, picture.width, size)
        y = torch.nn.functional.interpolate(x[None], (high, wide), mode="bilinear", antialias=True)
        y = y[0, :, (high - size) // 2 :, (wide - size) // 2 :][:, :size, :size]
        levels = (y * 255).round().clamp(0, 255).to(torch.uint8)
        return levels.permute(1, 2, 0).contiguous().numpy()

    return _each(work)


def _recipe(size: int, crop: str, jpeg: str) -> Recipe:
    return Recipe(size, size, 3, crop, "white", jpeg, 10**8)


def _each(make: Callable[[bytes], Levels]) -> Work:
    def work() -> None:
        for file in files():
            make(file)

    return work


def _rgb(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def _short_side(height: int, width: int, size: int) -> tuple[int, int]:
    short = min(height, width)
    return round(size * height / short), round(size * width / short)


def _resized_and_cut(picture: Image.Image, size: int, by: Image.Resampling) -> Levels:
    high, wide = _short_side(picture.height, picture.width, size)
    levels = np.array(picture.resize((wide, high), by))
    top, left = (high - size) // 2, (wide - size) // 2
    return levels[top : top + size, left : left + size]


if __name__ == "__main__":
    main()
