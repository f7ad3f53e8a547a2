"""Samples as files that others read: PNG, ADM's npz, and this project's Parquet.

Samples pass in chunks, and stand under a temporary name until all are there. JPEG is refused: what
it loses looks like little and turns an FID of 2.5 into 5.8.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core import atomic
from sid2core.data.load import shards
from sid2core.data.load.shards import Layout
from sid2core.data.sources.protocol import Record
from sid2core.metrics.errors import MetricsError

Chunk = tuple[NDArray[np.uint8], NDArray[np.integer]]
"""Images [b, h, w, c] and their labels [b]."""

_EXTENSIONS = {".npz": "npz", ".parquet": "parquet", ".jpg": "jpeg", ".jpeg": "jpeg"}
_OURS = re.compile(r"\d{5,}-\d+\.png")
_ROW_GROUP = 2**24
"""Bytes of images in one row group of Parquet, about."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled samples that pass once, in order."""

    count: int
    shape: tuple[int, ...]
    """Of one sample, [h, w, c]; of a clip, which PNG cannot hold, [f, h, w, c]."""
    class_names: tuple[str, ...]
    """The name of each label; needed for Parquet alone."""
    chunks: Iterable[Chunk]


def form_of(path: Path, form: str | None) -> str:
    """The format to write: ``form``, or that of the path's ending, or else PNG.

    Raises:
        MetricsError: there is no such format, or it is JPEG.
    """
    form = (form or _EXTENSIONS.get(path.suffix.lower(), "png")).lower()
    if form in ("jpg", "jpeg"):
        msg = "JPEG loses what a metric sees: FIDs of 2.5 were measured as 5.8 through it; "
        raise MetricsError(f"{msg}write png, npz or parquet")
    if form not in WRITERS:
        msg = f"no format {form!r}; there are {', '.join(WRITERS)}"
        raise MetricsError(msg)
    return form


def write(path: Path, samples: Samples, form: str | None = None, *, force: bool = False) -> None:
    """Write all samples to ``path``, or nothing.

    Args:
        path: a folder for PNG, a file for the others.
        samples: what to write.
        form: a key of :data:`WRITERS`; by default as :func:`form_of` has it.
        force: replace a file, or a folder in which nothing but samples lies.

    Raises:
        MetricsError: ``path`` is taken; the format is none, or cannot hold the samples; these are
            not as they were announced.
    """
    form, path = form_of(path, form), path.resolve()
    _check_free(path, form, force)
    if form == "png" and len(samples.shape) != 3:
        msg = f"a PNG holds one image, not a clip {list(samples.shape)}: write npz or parquet"
        raise MetricsError(msg)
    with atomic.unfinished(path) as made:
        WRITERS[form](made, replace(samples, chunks=_checked(samples)))
        atomic.put(made, path)


def _check_free(path: Path, form: str, force: bool) -> None:
    if path.is_dir():
        names = sorted(os.listdir(path))
        others = [name for name in names if not _OURS.fullmatch(name)]
        if form != "png" or others:
            held = f"is a folder that holds {others[0]}" if others else "is a folder"
            msg = f"{path} {held}; choose another place, or remove it yourself"
            raise MetricsError(msg)
        taken = bool(names)
    else:
        taken = path.exists()
    if taken and not force:
        msg = f"{path} is there already; choose another place, or replace it by --force"
        raise MetricsError(msg)


def _checked(samples: Samples) -> Iterator[Chunk]:
    """The chunks; anything else than was announced is an error."""
    count = 0
    for images, labels in samples.chunks:
        good = images.dtype == np.uint8 and images.shape[1:] == samples.shape
        if not good or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            msg = (
                f"a chunk has {images.dtype} {images.shape} and labels {labels.dtype} "
                f"{labels.shape}; expected uint8 of {samples.shape} each and one integer label each"
            )
            raise MetricsError(msg)
        count += len(images)
        yield images, labels
    if count != samples.count:
        msg = f"{count} samples came, expected {samples.count}; make them again"
        raise MetricsError(msg)


def _png(path: Path, samples: Samples) -> None:
    """``00000-<label>.png`` and so on, of as many digits as sort."""
    path.mkdir()
    digits, index = max(5, len(str(samples.count - 1))), 0
    for images, labels in samples.chunks:
        for image, label in zip(images, labels, strict=True):
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            picture.save(path / f"{index:0{digits}d}-{label}.png")
            index += 1


def _npz(path: Path, samples: Samples) -> None:
    """``arr_0``, the images, and ``arr_1``, the labels (int64): not compressed, as ADM has them."""
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        with _member(archive, "arr_0", (samples.count, *samples.shape), np.uint8) as file:
            for images, some in samples.chunks:
                file.write(np.ascontiguousarray(images).data)
                labels.append(some.astype(np.int64))
        with _member(archive, "arr_1", (samples.count,), np.int64) as file:
            file.write(np.concatenate([*labels, np.empty(0, np.int64)]).data)


def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: type[np.integer]
) -> IO[bytes]:
    """An array of the archive, its header written, its values still to come."""
    # ZipInfo's own time, not now: equal samples are equal bytes. Their size may pass 4 GiB.
    file = archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
    kind = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _parquet(path: Path, samples: Samples) -> None:
    """One shard as ``prepare`` writes it, of split ``samples``; keys are the samples' numbers."""
    layout = Layout(samples.shape, samples.class_names, "samples")
    rows = max(1, _ROW_GROUP // math.prod(samples.shape))
    shards.write(path, layout, _records(samples), min(rows, samples.count))


def _records(samples: Samples) -> Iterator[Record]:
    height, width = samples.shape[-3:-1]
    classes, index = len(samples.class_names), 0
    for images, labels in samples.chunks:
        for image, label in zip(images, labels.tolist(), strict=True):
            if not 0 <= label < classes:
                msg = f"sample {index} has label {label}; {classes} names of classes were given"
                raise MetricsError(msg)
            yield Record(f"{index:08d}", image, label, (width, height))
            index += 1


WRITERS: Mapping[str, Callable[[Path, Samples], None]] = {
    "png": _png,
    "npz": _npz,
    "parquet": _parquet,
}
"""By the name of the format."""
