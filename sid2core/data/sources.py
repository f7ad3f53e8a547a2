"""Where images come from: one row of :data:`SOURCES` for each value of ``data.source``.

A source alone knows its images' size, channels and classes. Everything after it learns them from
the source's own ``shape`` and ``class_names``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from sid2core import config
from sid2core.data.digits import Digits
from sid2core.data.folders import Folder, Frames, Root
from sid2core.data.records import Source
from sid2core.data.shapes import Shapes

PathKey = Literal["path", "eval_path"]


def opened(data: config.Data) -> tuple[Source, Source | None]:
    """The source of the train split, and that of the eval split.

    The latter is None where both come from the first, by ``data.train_fraction``.
    """
    make = SOURCES[data.source]
    return make(data, "path"), None if data.eval_path is None else make(data, "eval_path")


def _folder(data: config.Data, key: PathKey) -> Source:
    assert data.image_size is not None  # config.Data has seen to it, here as below
    assert data.channels is not None
    return Folder(_root(data, key), data.image_size, data.channels)


def _frames(data: config.Data, key: PathKey) -> Source:
    assert data.image_size is not None
    assert data.channels is not None
    assert data.frames is not None
    assert data.frame_stride is not None
    return Frames(_root(data, key), data.image_size, data.channels, data.frames, data.frame_stride)


def _root(data: config.Data, key: PathKey) -> Root:
    return Root(Path(getattr(data, key)), f"data.{key}")


SOURCES: Mapping[str, Callable[[config.Data, PathKey], Source]] = {
    "digits": lambda data, key: Digits(),
    "shapes": lambda data, key: Shapes.of(data),
    "folder": _folder,
    "frames": _frames,
}
