"""From JPEG files to images of 64 and 256 pixels: ours, other libraries, and decoding alone.

    python -m benchmarks.prepare

The pictures are 500 x 375, made from a seed with the spectrum of photographs, at quality 90 and in
memory. Each contender takes one after the other on one core and leaves arrays of uint8 [h, w, 3];
those of decoding alone are 375 x 500. All start with the memory settings of a stage. The times are
of the processor, so that other work on the machine counts little.

Two contenders are parts of the question, not answers to it: ``resizing alone`` begins with decoded
pictures, and ``a whole shard`` goes from files on disk to a Parquet file with its checksum.

Noted as well: how many levels (of 255) each contender's images are from ours, and how far reduced
decoding is from the exact one. torchvision and libvips (``pip install pyvips pyvips-binary``) are
left out where they are not installed.
"""

from __future__ import annotations

import functools
import importlib
import io
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from benchmarks import common
from benchmarks.common import Contender, Work
from sid2core.data.decode.crops import CROPS
from sid2core.data.decode.decoding import Recipe
from sid2core.data.load.shards import Layout
from sid2core.data.prepare import preparation
from sid2core.data.sources.protocol import Content, Entry
from tests.data import encoded, pictures

IMAGES = 16
HEIGHT, WIDTH = 375, 500
SIZES = (64, 256)
REFERENCE = "decoding alone"
ADM = "ours, adm"

Levels = NDArray[np.uint8]
Maker = Callable[[bytes], Levels]
"""From a file to its image."""


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=15)
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    results, metadata = {}, {}
    for size in SIZES:
        field = [Contender(REFERENCE, "benchmarks.prepare:decoding", tuned=True)]
        for name in common.chosen([*MAKERS, *PARTS], options.only):
            make, choices = ("of_maker", {"name": name}) if name in MAKERS else (PARTS[name], {})
            arguments: dict[str, Any] = {"size": size, **choices}
            field.append(Contender(name, f"benchmarks.prepare:{make}", arguments, tuned=True))
        seconds, found = common.race(field, options.rounds, options.threads, "process_time")
        rows: dict[str, dict[str, Any]] = {**common.summary(seconds, REFERENCE)}
        for name, row in rows.items():
            row |= {"images_per_second": IMAGES / row["median"], "utilisation": 1 / row["ratio"]}
            if name in MAKERS and name != ADM:
                row["from_adm"] = differences(MAKERS[name](size), MAKERS[ADM](size))
        common.show(f"to {size} x {size}, ms for {IMAGES} images", rows, REFERENCE)
        apart = {crop: scaled_differs(size, crop) for crop in CROPS}
        results[f"{size} x {size}"] = {"contenders": rows, "exact_above_scaled": apart}
        metadata |= found
    metadata |= {"threads": options.threads, "clock": "process_time"}
    metadata |= {"images": IMAGES, "bytes": sum(map(len, files()))}
    common.write("prepare", metadata, results)


@functools.cache
def files() -> tuple[bytes, ...]:
    """The pictures as JPEG files."""
    levels = (pictures.photograph(HEIGHT, WIDTH, seed) for seed in range(IMAGES))
    return tuple(encoded.saved(one, "JPEG", quality=90) for one in levels)


def differences(one: Maker, other: Maker) -> dict[str, float]:
    """How many levels (of 255) the images of ``one`` are above those of ``other``; noise in dB."""
    first, second = (np.stack([maker(file) for file in files()]) for maker in (one, other))
    apart = first.astype(float) - second
    found = {
        "mean": apart.mean(),
        "mean_absolute": np.abs(apart).mean(),
        "most": np.abs(apart).max(),
    }
    if apart.any():
        found["psnr"] = 10 * np.log10(255**2 / np.square(apart).mean())
    return {name: round(float(value), 3) for name, value in found.items()}


def scaled_differs(size: int, crop: str) -> dict[str, float]:
    """How far exact decoding is above scaled decoding."""
    return differences(ours(size, crop, "exact"), ours(size, crop, "scaled"))


def describe() -> dict[str, Any]:
    """What the work runs on."""
    found = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}
    for name in ("torch", "torchvision"):
        if library := sys.modules.get(name):
            found[name] = library.__version__
    if vips := sys.modules.get("pyvips"):
        found["libvips"] = ".".join(str(vips.version(part)) for part in range(3))
    return {"platform": "cpu", **found}


def decoding() -> Work:
    """Pillow's decoder, and its pixels as an array."""
    return _each(lambda file: np.asarray(_rgb(file)))


def of_maker(name: str, size: int) -> Work:
    """The work of one of :data:`MAKERS`."""
    return _each(MAKERS[name](size))


def resizing(size: int) -> Work:
    """Our resizing and cropping of decoded pictures."""
    decoded = [_rgb(file) for file in files()]

    def work() -> None:
        for picture in decoded:
            np.array(CROPS["adm"].cut(picture, size, size, 10**8))

    return work


def whole_shard(size: int) -> Work:
    """What a process of ``prepare`` does: read, decode, resize, count, hash, write, checksum."""
    folder = tempfile.TemporaryDirectory()
    paths = [Path(folder.name, f"{number}.jpg") for number in range(IMAGES)]
    for path, file in zip(paths, files(), strict=True):
        path.write_bytes(file)
    source: Any = _Files(_recipe(size, "adm", "exact"))
    job = preparation.Job(
        Path(folder.name, "train.parquet"),
        Layout(source.shape, ("all",), "train"),
        source,
        [Entry(str(path), 0, None) for path in paths],
        row_group_records=64,
    )

    def work(kept: Any = folder) -> None:
        preparation.write_shard(job)

    return work


class _Files:
    """A source of files on disk."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.shape = recipe, recipe.shape

    def read(self, entry: Entry) -> Content:
        with Path(entry.key).open("rb") as file:
            return self.recipe.image(file)


def ours(size: int, crop: str = "adm", jpeg: str = "exact") -> Maker:
    """What ``prepare`` does to a file."""
    recipe = _recipe(size, crop, jpeg)
    return lambda file: recipe.image(io.BytesIO(file)).image


def pillow_adm(size: int) -> Maker:
    """ADM's preprocessing as its authors wrote it: the same bytes as ours."""

    def make(file: bytes) -> Levels:
        picture = _rgb(file)
        while min(picture.size) >= 2 * size:
            half = (picture.width // 2, picture.height // 2)
            picture = picture.resize(half, Image.Resampling.BOX)
        return _resized_and_cut(picture, size, Image.Resampling.BICUBIC)

    return make


def pillow(size: int, by: Image.Resampling) -> Maker:
    """Resize the shorter side at once, and cut out the centre."""
    return lambda file: _resized_and_cut(_rgb(file), size, by)


def pytorch(size: int) -> Maker:
    """As torchvision resizes floats: antialiased bilinear on the shorter side, centre."""
    torch = _torch()

    def make(file: bytes) -> Levels:
        x = torch.from_numpy(np.array(_rgb(file))).permute(2, 0, 1).contiguous().float() / 255
        high, wide = _short_side(*x.shape[1:], size)
        y = torch.nn.functional.interpolate(x[None], (high, wide), mode="bilinear", antialias=True)
        levels = (y[0] * 255).round().clamp(0, 255).to(torch.uint8)
        return _cut(levels.permute(1, 2, 0).contiguous().numpy(), size)

    return make


def pytorch_bytes(size: int) -> Maker:
    """As torchvision resizes bytes: PyTorch's own vector code, antialiased bicubic."""
    torch = _torch()

    def make(file: bytes) -> Levels:
        x = torch.from_numpy(np.array(_rgb(file))).permute(2, 0, 1)[None]  # channels last
        sides = _short_side(*x.shape[2:], size)
        y = torch.nn.functional.interpolate(x, sides, mode="bicubic", antialias=True)
        return _cut(y[0].permute(1, 2, 0).numpy(), size)

    return make


def torchvision(size: int) -> Maker:
    """The decoder and the resizing of bytes of torchvision."""
    torch = _torch()
    decoders: Any = importlib.import_module("torchvision.io")
    transforms: Any = importlib.import_module("torchvision.transforms.v2")
    bicubic = transforms.InterpolationMode.BICUBIC

    def make(file: bytes) -> Levels:
        data = torch.frombuffer(bytearray(file), dtype=torch.uint8)
        x = decoders.decode_jpeg(data, decoders.ImageReadMode.RGB)
        y = transforms.functional.resize(x, [size], bicubic, antialias=True)
        return _cut(y.permute(1, 2, 0).contiguous().numpy(), size)

    return make


def libvips(size: int) -> Maker:
    """Bicubic resizing of the decoded picture by libvips."""
    pyvips: Any = importlib.import_module("pyvips")

    def make(file: bytes) -> Levels:
        picture = pyvips.Image.new_from_buffer(file, "", access="sequential")
        scale = size / min(picture.width, picture.height)
        return _cut(picture.resize(scale, kernel="cubic").numpy(), size)

    return make


def libvips_thumbnail(size: int) -> Maker:
    """The command that libvips recommends: the decoder reduces as far as it can."""
    pyvips: Any = importlib.import_module("pyvips")

    return lambda file: pyvips.Image.thumbnail_buffer(
        file, size, height=size, crop="centre"
    ).numpy()


MAKERS: Mapping[str, Callable[[int], Maker]] = {
    ADM: ours,
    "ours, adm, scaled": functools.partial(ours, jpeg="scaled"),
    "ours, centre": functools.partial(ours, crop="centre"),
    "Pillow, adm as published": pillow_adm,
    "Pillow, bicubic": functools.partial(pillow, by=Image.Resampling.BICUBIC),
    "Pillow, Lanczos": functools.partial(pillow, by=Image.Resampling.LANCZOS),
    "PyTorch, bilinear of floats": pytorch,
    "PyTorch, bicubic of bytes": pytorch_bytes,
    "torchvision, bicubic": torchvision,
    "libvips, bicubic": libvips,
    "libvips, thumbnail": libvips_thumbnail,
}
"""Ways from a file to an image, by name; called with the size."""
PARTS = {"ours, adm, resizing alone": "resizing", "ours, adm, a whole shard": "whole_shard"}


def _recipe(size: int, crop: str, jpeg: str) -> Recipe:
    return Recipe(size, size, 3, crop, "white", jpeg, 10**8)


def _each(make: Maker) -> Work:
    def work() -> None:
        for file in files():
            make(file)

    return work


def _rgb(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def _torch() -> Any:
    """PyTorch with one thread."""
    import torch  # the other contenders do without

    torch.set_num_threads(1)
    return torch


def _short_side(height: int, width: int, size: int) -> tuple[int, int]:
    short = min(height, width)
    return round(size * height / short), round(size * width / short)


def _resized_and_cut(picture: Image.Image, size: int, by: Image.Resampling) -> Levels:
    high, wide = _short_side(picture.height, picture.width, size)
    return _cut(np.array(picture.resize((wide, high), by)), size)


def _cut(levels: Levels, size: int) -> Levels:
    """The centre of levels [h, w, c]."""
    top, left = (levels.shape[0] - size) // 2, (levels.shape[1] - size) // 2
    return levels[top : top + size, left : left + size]


if __name__ == "__main__":
    main()
