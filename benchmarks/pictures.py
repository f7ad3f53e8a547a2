"""The same images in every form that the loader's contenders read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from sid2core.data.load.shards import Layout
from sid2core.data.sources.digits import Digits
from sid2core.pipeline import artifact

CLASSES = ("a", "b")
JPEG_QUALITY = 90
_ROW_GROUP_BYTES = 12 * 2**20
"""As in the presets for ImageNet."""


def write(folder: Path, count: int, side: int) -> None:
    """``count`` RGB images: shards as ``prepare``'s, JPEG and PNG files, and one array."""
    draws = np.random.default_rng(0)
    images = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.uint8, (count, side, side, 3)
    )
    for number in range(count):
        picture = _picture(draws, side)
        images[number] = picture
        for kind in ("jpg", "png"):
            target = folder / kind / f"{number:06d}.{kind}"
            target.parent.mkdir(exist_ok=True)
            picture.save(target, quality=JPEG_QUALITY)
    _prepare(folder, images, np.arange(count) % len(CLASSES), CLASSES)


def write_digits(folder: Path) -> None:
    """The embedded default's images, as one split."""
    source = Digits()
    entries = source.index()
    images = np.stack([source.read(entry).image for entry in entries])
    labels = np.array([entry.label for entry in entries])
    _prepare(folder, images, labels, source.class_names)


def _picture(draws: np.random.Generator, side: int) -> Image.Image:
    """Smooth shapes under a little noise: decoders take as long for it as for a photograph."""
    coarse = Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noise = draws.integers(-8, 9, smooth.shape, np.int16)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def _prepare(
    folder: Path, images: NDArray[np.uint8], labels: NDArray, class_names: tuple[str, ...]
) -> None:
    layout = Layout(images.shape[1:], class_names, "train")
    schema, name = layout.schema(), "train-00000-of-00001.parquet"
    raw = [None, pa.py_buffer(np.ascontiguousarray(images))]
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(schema.field("image").type, len(images), raw),
        pa.array(labels, pa.int32()),
        pa.array(map(str, range(len(images)))),
    ]
    with artifact.create("prepare", {}, root=folder / "artifacts") as draft:
        pq.write_table(
            pa.Table.from_arrays(columns, schema=schema),
            draft.path(name),
            row_group_size=min(256, _ROW_GROUP_BYTES // images[0].nbytes),
            compression="none",
            use_dictionary=False,
        )
        draft.metadata |= {"shape": list(layout.shape), "class_names": list(class_names)}
        draft.metadata |= {"splits": {"train": {"records": len(images), "shards": [name]}}}
