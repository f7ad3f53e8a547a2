"""Sets of images to be measured, read in chunks of raw pixels.

A folder, ``.zip`` or ``.tar`` of image files (flat, or ``<class>/<image>``), in the order of names;
an ``.npz`` with ``arr_0`` (ADM's sample files) or ``images``; an ``.npy``; Parquet as this project
writes it: a file, a pattern, or a folder of them. Images are measured as they are: nothing is
resized or cropped, so all images of a set must have one size.

Files are decoded as in ``prepare``, see :mod:`sid2core.data.decode.decoding`. Arrays are mapped
into memory; a compressed one is first unpacked into ``TMPDIR``, once.
"""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from typing_extensions import Protocol, runtime_checkable

from sid2core.data.decode.decoding import Recipe
from sid2core.data.errors import Unusable
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.reading import Shards
from sid2core.data.load.shards import Layout
from sid2core.data.sources import folders
from sid2core.data.storage import globbing, npy
from sid2core.data.storage import paths as places
from sid2core.data.storage.trees import ROOT, Item, Tree, walk
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.provenance import DECLARED, LOSSLESS

ARRAYS = ("arr_0", "images")
"""Names of an npz's images: ADM's, and this project's."""
_PARQUET = ".parquet"
_PARAMETER = "path"
MAX_PIXELS = 89_478_485
_LOSSY = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif"}
_log = logging.getLogger(__name__)


@runtime_checkable
class ImageSet(Protocol):
    """Images or clips of one shape, read in chunks."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[h, w, c] of each image, or [f, h, w, c] of each clip."""
        ...

    @property
    def image_format(self) -> str:
        """The lossy formats that they passed through: see :mod:`sid2core.metrics.provenance`."""
        ...

    def __len__(self) -> int:
        """How many."""
        ...

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All in order as [b, …], ``size`` at a time and fewer at last.

        Raises:
            Sid2Error: an image cannot be read, or is of another size than the first.
        """
        ...


def opened(path: str, channels: int = 3) -> ImageSet:
    """The images at ``path``.

    Args:
        path: one of the above; archives and arrays may be at a URL.
        channels: of image files, 3 or 1; colour is never made grey. Arrays have their own.

    Raises:
        Sid2Error: the path holds no such set, or no image.
    """
    path = places.plain(path)
    if path.endswith((".npz", ".npy")):
        found: ImageSet = _array(path)
    elif is_parquet(path):
        found = parquet(path)
    else:
        found = _files(path, channels)
    if not len(found):
        msg = f"{path} holds no image; give a set of at least two"
        raise MetricsError(msg)
    return found


def is_parquet(path: str) -> bool:
    """Whether it is a Parquet file by name, a pattern of them, or a folder that has some."""
    return path.endswith(_PARQUET) or bool(glob.glob(f"{glob.escape(path)}/*{_PARQUET}"))


def provenance(images: ImageSet) -> dict[str, Any]:
    """The provenance that a set of images has; how they were cropped is not part of it."""
    return {"shape": list(images.shape), "image_format": images.image_format, DECLARED: []}


@dataclass(frozen=True, eq=False)
class Files:
    """Image files of a tree."""

    tree: Tree
    items: tuple[Item, ...]
    shape: tuple[int, int, int]

    @property
    def image_format(self) -> str:
        """The lossy formats among them, by file name."""
        return lossy(self.items)

    def __len__(self) -> int:
        """How many."""
        return len(self.items)

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """As :meth:`ImageSet.chunks`."""
        for start in range(0, len(self), size):
            part = self.items[start : start + size]
            yield np.stack([image(self.tree, one, self.shape, self.shape[:2]) for one in part])


def lossy(items: Iterable[Item]) -> str:
    """The lossy formats among files, by their names."""
    extensions = {os.path.splitext(item.name)[1].lower() for item in items}
    return "+".join(sorted({_LOSSY[one] for one in extensions if one in _LOSSY})) or LOSSLESS


def image(
    tree: Tree, item: Item, shape: tuple[int, int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """A file's picture [h, w, c] of ``shape``, to which it is resized.

    Raises:
        MetricsError: it cannot be read, has another height and width than ``size``, or colours
            although ``shape`` has one channel.
    """
    height, width, channels = shape
    found, actual = decoded(tree, item, height, width)
    if actual != (size[1], size[0]):
        msg = (
            f"{_name(tree, item)} has {actual[0]}x{actual[1]} pixels and the first image "
            f"{size[1]}x{size[0]}; a set is measured unresized: give images of one size"
        )
        raise MetricsError(msg)
    return in_channels(found, channels, _name(tree, item))


def in_channels(pixels: NDArray[np.uint8], channels: int, name: str) -> NDArray[np.uint8]:
    """Pixels [..., 3] with 3 channels or 1.

    Raises:
        MetricsError: they have colours and 1 channel is asked for.
    """
    if channels == 3:
        return pixels
    if (pixels != pixels[..., :1]).any():
        msg = f"{name} has colours, and the extractor is for grey images"
        raise MetricsError(f"{msg}: give grey ones, or another extractor")
    return pixels[..., :1]


def _files(path: str, channels: int) -> Files:
    tree = folders.planted(path, _PARAMETER, "<image> or <class>/<image>")
    found = [item for item in walk(tree, ROOT) if not item.is_folder]
    items = tuple(folders.images_among(found))
    if len(items) < len(found):
        _log.warning("%s: %d file(s) are no images by name", path, len(found) - len(items))
    if not items:
        return Files(tree, (), (0, 0, channels))
    _, (width, height) = decoded(tree, items[0], 1, 1)
    return Files(tree, items, (height, width, channels))


def decoded(
    tree: Tree, item: Item, height: int, width: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """A file's picture in colour as [height, width, 3], and its own width and height.

    Raises:
        MetricsError: it cannot be read.
    """
    recipe = Recipe(height, width, 3, "squash", "white", "exact", MAX_PIXELS)
    try:
        if item.problem is not None:
            raise Unusable(item.problem)
        with tree.open(item.path, item.place) as file:
            content = recipe.image(file)
    except Unusable as error:
        msg = f"{_name(tree, item)} cannot be measured: {error}; repair or remove it"
        raise MetricsError(msg) from error
    return content.image, content.size


def _name(tree: Tree, item: Item) -> str:
    return places.join(tree.root, item.path)


@dataclass(frozen=True, eq=False)
class Array:
    """Images of an array that is mapped into memory."""

    stored: npy.Stored
    image_format: str = LOSSLESS

    @property
    def shape(self) -> tuple[int, int, int]:
        """[h, w, c]; an array without channels has one."""
        height, width, *channels = self.stored.shape[1:]
        return height, width, channels[0] if channels else 1

    def __len__(self) -> int:
        """How many."""
        return self.stored.shape[0]

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """As :meth:`ImageSet.chunks`."""
        values = npy.mapped(self.stored)
        for start in range(0, len(self), size):
            chunk = np.array(values[start : start + size], order="C")
            yield chunk.reshape(len(chunk), *self.shape)


def array(path: str) -> npy.Stored:
    """The array of an ``.npy``, or of :data:`ARRAYS` in an ``.npz``.

    Raises:
        Sid2Error: there is none.
    """
    if not places.exists(path):
        raise places.missing(path, _PARAMETER, "an .npz or .npy file of images")
    stored = npy.located(path, ARRAYS)
    if stored is None:
        msg = f"{path} has no array {' or '.join(ARRAYS)}, and no mu and sigma: name the images so"
        raise MetricsError(msg)
    return stored


def _array(path: str) -> Array:
    stored = array(path)
    shape = stored.shape
    has_channels = len(shape) == 4 and shape[-1] in (1, 3)
    if stored.dtype != np.uint8 or not (len(shape) == 3 or has_channels) or 0 in shape[1:]:
        msg = (
            f"{path} has images of {stored.dtype} and shape {list(shape)}; expected uint8 of "
            "[n, h, w] or [n, h, w, c] with 1 or 3 channels last: save them so"
        )
        raise MetricsError(msg)
    return Array(stored)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Images or clips of this project's Parquet."""

    dataset: Dataset
    image_format: str = LOSSLESS

    @property
    def shape(self) -> tuple[int, ...]:
        """[h, w, c] or [f, h, w, c]."""
        return self.dataset.shape

    def __len__(self) -> int:
        """How many."""
        return len(self.dataset)

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """As :meth:`ImageSet.chunks`."""
        return (images for images, _ in self.dataset.chunks(size))


def parquet(path: str, rank: int = 3) -> Prepared:
    """The records of Parquet files: images of rank 3, or clips of rank 4.

    Raises:
        Sid2Error: they are of another rank, of several splits, or not of this project.
    """
    found = globbing.matching(path, _PARAMETER, _PARQUET)
    paths = [Path(file.path) for file in found if file.problem is None]
    layouts = [_layout(path) for path in paths]
    splits = sorted({layout.split for layout in layouts})
    if len(splits) > 1:
        msg = f"{path} holds splits {', '.join(splits)}: give one, such as {splits[0]}-*.parquet"
        raise MetricsError(msg)
    if len(layouts[0].shape) != rank:
        expected = "images [h, w, c]" if rank == 3 else "clips [f, h, w, c]"
        msg = f"{path} has records of shape {list(layouts[0].shape)}; expected {expected}"
        raise MetricsError(f"{msg}: clips and images are measured by different extractors")
    return Prepared(Dataset(Shards(paths, layouts[0])))


def _layout(path: Path) -> Layout:
    """The layout in the schema's metadata, see :mod:`sid2core.data.load.shards`."""
    try:
        schema = pq.read_schema(path)
        metadata: Mapping[str, Any] = json.loads(schema.metadata[b"sid2"])
        shape, names = tuple(metadata["shape"]), tuple(metadata["class_names"])
        attributes = tuple(metadata.get("attributes", ()))
        return Layout(shape, names, metadata["split"], "captions" in schema.names, attributes)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
        msg = (
            f"{path} cannot be read as Parquet of this project ({error!r}); `dvc repro prepare` "
            "makes such of others, with data.source parquet"
        )
        raise MetricsError(msg) from error
