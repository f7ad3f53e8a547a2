"""Samples as files that others read: PNG, ADM's npz, this project's Parquet, and clips that play.

Samples pass in chunks, and stand under a temporary name until all are there. JPEG is refused: what
it loses looks like little and turns an FID of 2.5 into 5.8.
"""

from __future__ import annotations

import functools
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

from sid2core import atomic
from sid2core.data import encode
from sid2core.data.load import shards
from sid2core.data.load.shards import Layout
from sid2core.data.sources.protocol import Record
from sid2core.metrics.errors import MetricsError

Chunk = tuple[NDArray[np.uint8], NDArray[np.integer]]
"""Images [b, h, w, c] and their labels [b]."""

_EXTENSIONS = {".npz": "npz", ".parquet": "parquet", ".jpg": "jpeg", ".jpeg": "jpeg"}
_OURS = re.compile(r"\d{5,}-\d+(\.png|\.webp|\.gif|\.mp4|)")
_FRAME = re.compile(r"\d{4,}\.png")
RATE = 8.0
"""Frames a second of clips that play, where nothing else is said."""
_ROW_GROUP = 2**24
"""Bytes of images in one row group of Parquet, about."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled samples that pass once, in order."""

    count: int
    shape: tuple[int, ...]
    """Of one sample, [h, w, c]; of a clip [f, h, w, c]."""
    class_names: tuple[str, ...]
    """The name of each label; needed for Parquet alone."""
    chunks: Iterable[Chunk]
    rate: float = RATE
    """Frames a second of a clip that plays."""


def form_of(path: Path, form: str | None, *, clips: bool = False) -> str:
    """The format to write: ``form``, or that of the path's ending, or else PNG, of clips npz.

    Raises:
        MetricsError: there is no such format, or it is JPEG, or the path is that of a single clip.
        DataError: the format needs a package that is not installed.
    """
    suffix = path.suffix.lower()
    if form is None and suffix.removeprefix(".") in encode.ENCODERS:
        msg = f"{path} would be a single clip; name a folder, and the format by --format"
        raise MetricsError(f"{msg} {suffix.removeprefix('.')}")
    form = (form or _EXTENSIONS.get(suffix, "npz" if clips else "png")).lower()
    if form in ("jpg", "jpeg"):
        msg = "JPEG loses what a metric sees: FIDs of 2.5 were measured as 5.8 through it; "
        raise MetricsError(f"{msg}write png, npz or parquet")
    if form not in WRITERS:
        msg = f"no format {form!r}; there are {', '.join(WRITERS)}"
        raise MetricsError(msg)
    if form == "mp4":
        encode.pyav()
    return form


def write(path: Path, samples: Samples, form: str | None = None, *, force: bool = False) -> str:
    """Write all samples to ``path``, or nothing; returns the format.

    Args:
        path: a file for npz and Parquet, a folder for the others.
        samples: what to write.
        form: a key of :data:`WRITERS`; by default as :func:`form_of` has it.
        force: replace a file, or a folder in which nothing but samples lies.

    Raises:
        MetricsError: ``path`` is taken; the format is none, or cannot hold the samples; these are
            not as they were announced.
    """
    clips = len(samples.shape) == 4
    form, path = form_of(path, form, clips=clips), path.resolve()
    _check_free(path, form, force)
    if form == "png" and clips:
        msg = f"a PNG holds one image, not a clip {list(samples.shape)}: write npz, parquet"
        raise MetricsError(f"{msg}, {', '.join(encode.ENCODERS)}")
    if form in encode.ENCODERS and not clips:
        msg = f"{form} is for clips, and these are images {list(samples.shape)}: write png, npz or"
        raise MetricsError(f"{msg} parquet")
    with atomic.unfinished(path) as made:
        WRITERS[form](made, replace(samples, chunks=_checked(samples)))
        atomic.put(made, path)
    return form


def save_samples(
    samples: NDArray[np.uint8],
    path: str | Path,
    form: str | None = None,
    *,
    labels: NDArray[np.integer] | None = None,
    rate: float = RATE,
    force: bool = False,
) -> None:
    """Write images [n, h, w, c] or clips [n, f, h, w, c], such as ``Model.sample`` returns them.

    Args:
        samples: what to write.
        path: a file for npz and Parquet, a folder for the others.
        form: a key of :data:`WRITERS`; None is the one of the path's ending, or PNG, of clips npz.
        labels: of each; 0 by default.
        rate: frames a second of clips that play.
        force: replace a file, or a folder in which nothing but samples lies.

    Raises:
        MetricsError: as :func:`write` raises it.
    """
    found = np.zeros(len(samples), np.int32) if labels is None else np.asarray(labels)
    names = tuple(map(str, range(int(found.max(initial=0)) + 1)))
    one = Samples(len(samples), samples.shape[1:], names, [(samples, found)], rate)
    write(Path(path), one, form, force=force)


def _check_free(path: Path, form: str, force: bool) -> None:
    if path.is_dir():
        names = sorted(os.listdir(path))
        others = [name for name in names if not _written(path / name)]
        if form in ("npz", "parquet") or others:
            held = f"is a folder that holds {others[0]}" if others else "is a folder"
            msg = f"{path} {held}; choose another place, or remove it yourself"
            raise MetricsError(msg)
        taken = bool(names)
    else:
        taken = path.exists()
    if taken and not force:
        msg = f"{path} is there already; choose another place, or replace it by --force"
        raise MetricsError(msg)


def _written(path: Path) -> bool:
    """Whether a sample has this name; of a folder, whether nothing but its frames is in it."""
    frames = os.listdir(path) if path.is_dir() else ["0000.png"]
    return bool(_OURS.fullmatch(path.name)) and all(map(_FRAME.fullmatch, frames))


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
    for name, image in _named(samples):
        encode.picture(image).save(path / f"{name}.png")


def _clips(path: Path, samples: Samples, form: str) -> None:
    """``00000-<label>.gif`` and so on, a file or a folder for each clip."""
    path.mkdir()
    for name, clip in _named(samples):
        encode.ENCODERS[form](path / f"{name}{encode.SUFFIXES[form]}", clip, samples.rate)


def _named(samples: Samples) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    digits, index = max(5, len(str(samples.count - 1))), 0
    for images, labels in samples.chunks:
        for image, label in zip(images, labels, strict=True):
            yield f"{index:0{digits}d}-{label}", image
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
    **{form: functools.partial(_clips, form=form) for form in encode.ENCODERS},
}
"""By the name of the format."""
