"""Where images come from: one row of :data:`SOURCES` for each value of ``data.source``.

A source alone knows its images' size, channels and classes. Everything after it learns them from
the source's own ``shape`` and ``class_names``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from sid2core import config
from sid2core.data.decode.decoding import Recipe
from sid2core.data.sources import folders
from sid2core.data.sources.arrays import Arrays
from sid2core.data.sources.digits import Digits
from sid2core.data.sources.folders import Folder, Frames
from sid2core.data.sources.parquet import Parquet
from sid2core.data.sources.protocol import Source
from sid2core.data.sources.shapes import Shapes
from sid2core.data.sources.webdataset import WebDataset
from sid2core.data.storage import paths

PathKey = Literal["path", "eval_path"]


def opened(data: config.Data) -> tuple[Source, Source | None]:
    """The source of the train split, and that of the eval split.

    The latter is None where both come from the first, by ``data.train_fraction``.
    """
    make = SOURCES[data.source]
    return make(data, "path"), None if data.eval_path is None else make(data, "eval_path")


def _folder(data: config.Data, key: PathKey) -> Source:
    tree = folders.planted(_path(data, key), f"data.{key}", "<class>/<image>")
    return Folder(tree, Recipe.of(data), f"data.{key}", data.labels, data.class_names)


def _imagenet(data: config.Data, key: PathKey) -> Source:
    tree = folders.imagenet(_path(data, key), f"data.{key}")
    recipe, names = Recipe.of(data), data.class_names
    return Folder(tree, recipe, f"data.{key}", data.labels, names, folders.SYNSET)


def _frames(data: config.Data, key: PathKey) -> Source:
    assert data.frames is not None  # config.Data has seen to it, here as below
    assert data.frame_stride is not None
    tree = folders.planted(_path(data, key), f"data.{key}", "<class>/<clip>/<frame image>")
    return Frames(tree, Recipe.of(data), f"data.{key}", data.frames, data.frame_stride)


def _arrays(data: config.Data, key: PathKey) -> Source:
    path, recipe = _path(data, key), Recipe.of(data)
    return Arrays(path, recipe, f"data.{key}", data.labels, data.class_names)


def _parquet(data: config.Data, key: PathKey) -> Source:
    return Parquet(_path(data, key), Recipe.of(data), f"data.{key}", data.class_names)


def _webdataset(data: config.Data, key: PathKey) -> Source:
    return WebDataset(_path(data, key), Recipe.of(data), f"data.{key}", data.class_names)


def _path(data: config.Data, key: PathKey) -> str:
    path = getattr(data, key)
    assert path is not None
    return paths.plain(path)


SOURCES: Mapping[str, Callable[[config.Data, PathKey], Source]] = {
    "digits": lambda data, key: Digits(),
    "shapes": lambda data, key: Shapes.of(data),
    "folder": _folder,
    "frames": _frames,
    "imagenet": _imagenet,
    "arrays": _arrays,
    "parquet": _parquet,
    "webdataset": _webdataset,
}
