"""Sets of clips to be measured, read video by video and measured in chunks of raw pixels.

An ``.npz`` (``arr_0`` or ``images``) or ``.npy`` of clips [n, f, h, w, c]; a folder of such files,
or of one clip [f, h, w, c] each; a folder or archive of folders of frames, each a clip, in natural
order of the frames' names; a folder or archive of video files, by PyAV, in the order of their
names; Parquet of clips as this project writes it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Recipe
from sid2core.data.decode.video import decoding, files
from sid2core.data.decode.video.windows import Windows
from sid2core.data.errors import Unusable
from sid2core.data.sources import folders
from sid2core.data.storage import npy
from sid2core.data.storage import paths as places
from sid2core.data.storage.trees import ROOT, Item, Tree, walk
from sid2core.metrics import image_sets
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import i3d_k600

_ARRAYS = (".npy", ".npz")
_LAYOUT = "<clip>/<frame image>"


@dataclass(frozen=True)
class Cut:
    """Which clips are measured of each video.

    Attributes:
        frames: the first frames of it; None for all.
        protocol: 2 windows × 3 crops instead, of 16 frames (:mod:`i3d_k600`).
        size: to which the shorter side of frames in image files is resized; None for their own.
        channels: of image files, 3 or 1; colour is never made grey. Arrays have their own.
    """

    frames: int | None = None
    protocol: bool = False
    size: int | None = None
    channels: int = 3

    def image_format(self, stored: str) -> str:
        """The format of frames stored as ``stored``: resized ones are as prepared data."""
        return stored if self.size is None else image_sets.LOSSLESS

    def clips(self, video: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """The clips [m, f, h, w, c] of a video [F, H, W, C].

        Raises:
            MetricsError: it is too short.
        """
        needed = i3d_k600.FRAMES if self.protocol else self.frames
        if needed is not None and len(video) < needed:
            msg = f"{name} has {len(video)} frames; {needed} are measured: remove it"
            raise MetricsError(msg)
        return i3d_k600.real_clips(video[None]) if self.protocol else video[None, :needed]


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of videos that are read one by one, or a part of them.

    Attributes:
        names: of the videos, for errors.
        read: the parts of video i, each [F, H, W, C]; the cut is made of each.
        cut: which clips of it are measured.
        image_format: as :class:`image_sets.ImageSet` has it.
        frame_stride: of the frames of video files; None for those of other files.
    """

    names: Sequence[str]
    read: Callable[[int], Sequence[NDArray[np.uint8]]]
    cut: Cut
    image_format: str = image_sets.LOSSLESS
    frame_stride: int | None = None

    @functools.cached_property
    def _first(self) -> NDArray[np.uint8]:
        return self._clips(0)

    def _clips(self, index: int) -> NDArray[np.uint8]:
        parts = self.read(index)
        return np.concatenate([self.cut.clips(part, self.names[index]) for part in parts])

    @property
    def shape(self) -> tuple[int, ...]:
        """[f, h, w, c] of each clip."""
        return self._first.shape[1:]

    @property
    def provenance(self) -> dict[str, Any]:
        """What statistics of clips say beyond those of images."""
        entries = {"real_clips": self.real_clips, "frame_stride": self.frame_stride}
        return {name: value for name, value in entries.items() if value is not None}

    @property
    def real_clips(self) -> str | None:
        """Which clips of a video are measured, if several are."""
        several = self.cut.protocol and len(self._first) > 1
        return i3d_k600.CLIPS_OF_A_VIDEO if several else None

    def __len__(self) -> int:
        """How many clips, if all videos have as many as the first."""
        return len(self.names) * len(self._first) if len(self.names) else 0

    def _different(self, name: str, shape: tuple[int, ...]) -> str:
        """What to do about a video whose clips are not of the first one's shape."""
        cures = list[str]()
        if shape[0] != self.shape[0]:
            cures.append("give --frames")
        if shape[1:-1] != self.shape[1:-1]:
            same_proportions = "give --size where proportions are equal, else crop them to one"
            cures.append(
                same_proportions if self.cut.size is None else "crop them to one proportion"
            )
        if shape[-1] != self.shape[-1]:
            cures.append("convert them to one number of channels")
        return (
            f"{name} gives clips of {list(shape)}, the first video of {list(self.shape)}; "
            f"clips of one shape are measured: {', and '.join(cures)}"
        )

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All clips in order as [b, f, h, w, c], ``size`` at a time and fewer at last.

        Raises:
            Sid2Error: a video cannot be read, is too short, or of another size than the first.
        """
        pending = list[NDArray[np.uint8]]()
        for index, name in enumerate(self.names):
            clips = self._clips(index)
            if clips.shape[1:] != self.shape:
                raise MetricsError(self._different(name, clips.shape[1:]))
            pending.extend(clips)
            while len(pending) >= size:
                yield np.stack(pending[:size])
                del pending[:size]
        if pending:
            yield np.stack(pending)


def opened(path: str, cut: Cut) -> Clips:
    """The clips at ``path``.

    Raises:
        Sid2Error: the path holds no such set, or no clip.
    """
    path = places.plain(path)
    if path.endswith(_ARRAYS):
        found = _arrays([path], cut)
    elif image_sets.is_parquet(path):
        dataset = image_sets.parquet(path, rank=4).dataset
        names = [f"{path}, clip {row}" for row in range(len(dataset))]
        found = Clips(names, lambda row: [*dataset.take([row])], cut)
    else:
        arrays = [str(file) for file in _files(path) if file.suffix in _ARRAYS]
        found = _arrays(arrays, cut) if arrays else _in_files(path, cut)
    if not found.names:
        msg = f"{path} holds no clip; expected arrays [n, f, h, w, c], or folders {_LAYOUT}"
        raise MetricsError(msg)
    return found


def _files(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*")) if os.path.isdir(folder) else []


def _arrays(paths: Sequence[str], cut: Cut) -> Clips:
    """The clips of all arrays, one after the other."""
    stored = [_array(path) for path in paths]
    place = [
        (path, one, row) for path, one in zip(paths, stored, strict=True) for row in _rows(one)
    ]

    def read(index: int) -> list[NDArray[np.uint8]]:
        _, one, row = place[index]
        values = npy.mapped(one)
        return [np.array(values if len(one.shape) == 4 else values[row], order="C")]

    return Clips([f"{path}, clip {row}" for path, _, row in place], read, cut)


def _rows(stored: npy.Stored) -> range:
    return range(stored.shape[0] if len(stored.shape) == 5 else 1)


def _array(path: str) -> npy.Stored:
    stored = image_sets.array(path)
    shape = stored.shape
    if (
        stored.dtype != np.uint8
        or len(shape) not in (4, 5)
        or shape[-1] not in (1, 3)
        or 0 in shape
    ):
        msg = (
            f"{path} has clips of {stored.dtype} and shape {list(shape)}; expected uint8 of "
            "[n, f, h, w, c], or [f, h, w, c] for one, with 1 or 3 channels last: save them so"
        )
        raise MetricsError(msg)
    return stored


def _in_files(path: str, cut: Cut) -> Clips:
    """Clips in video files, if the tree has any by name, or else in folders of frames."""
    tree = folders.planted(path, "path", _LAYOUT)
    found = [item for item in walk(tree, ROOT) if not item.is_folder]
    videos = [item for item in found if files.is_usual(item.name) and not _is_frame(item)]
    if not videos:
        return _frames(tree, found, cut)
    if images := [one for one in found if one not in videos and formats.is_usual(one.name)]:
        msg = (
            f"{tree.root} holds {len(videos)} video(s) and {len(images)} image(s), such as "
            f"{images[0].path}; clips of one kind are measured: separate them"
        )
        raise MetricsError(msg)
    return _videos(tree, videos, cut)


def _is_frame(item: Item) -> bool:
    """Whether it is an image by name; WebP and APNG that lie in no folder are clips."""
    return item.name.lower().endswith((".webp", ".apng")) and "/" in item.path


def _videos(tree: Tree, items: Sequence[Item], cut: Cut) -> Clips:
    frames = i3d_k600.FRAMES if cut.protocol else cut.frames
    if frames is None:
        msg = f"{tree.root} holds video files: say by --frames how many frames of each are measured"
        raise MetricsError(msg)
    names = [places.join(tree.root, item.path) for item in items]
    windows = Windows(frames, per_video=i3d_k600.WINDOWS if cut.protocol else 1)

    def read(index: int) -> list[NDArray[np.uint8]]:
        try:
            with tree.open(items[index].path, items[index].place) as file:
                return _decoded_video(file, names[index], windows, cut)
        except Unusable as error:
            msg = f"{names[index]} cannot be measured: {error}; repair or remove it"
            raise MetricsError(msg) from error

    return Clips(names, read, cut, cut.image_format("video"), windows.stride)


def _decoded_video(
    file: BinaryIO, name: str, windows: Windows, cut: Cut
) -> list[NDArray[np.uint8]]:
    """The windows of one video, upright, the shorter side of ``cut.size`` pixels."""
    first = decoding.clips(file, _recipe(1, 1), Windows(1))[0]
    width, height = first.size
    scale = 1.0 if cut.size is None else cut.size / min(height, width)
    recipe = _recipe(round(scale * height), round(scale * width))
    found = [np.asarray(one.image) for one in decoding.clips(file, recipe, windows)]
    return [image_sets.in_channels(one, cut.channels, name) for one in found]


def _recipe(height: int, width: int) -> Recipe:
    return Recipe(height, width, 3, "squash", "white", "exact", image_sets.MAX_PIXELS)


def _frames(tree: Tree, found: Sequence[Item], cut: Cut) -> Clips:
    """Each folder that holds images is a clip."""
    by_folder = dict[str, list[Item]]()
    for item in found:
        by_folder.setdefault(item.path.rpartition("/")[0], []).append(item)
    clips = {name: folders.images_among(items) for name, items in by_folder.items()}
    if clips.pop("", None):
        msg = f"{tree.root} holds images that lie in no clip's folder; expected {_LAYOUT}"
        raise MetricsError(msg)
    clips = {name: items for name, items in clips.items() if items}
    names = sorted(clips)
    for items in clips.values():
        items.sort(key=lambda item: folders.natural(item.name))
    formats = cut.image_format(image_sets.lossy(item for items in clips.values() for item in items))

    def read(index: int) -> list[NDArray[np.uint8]]:
        items = clips[names[index]]
        return [_decoded(tree, items if cut.protocol else items[: cut.frames], cut)]

    return Clips([places.join(tree.root, name) for name in names], read, cut, formats)


def _decoded(tree: Tree, items: Sequence[Item], cut: Cut) -> NDArray[np.uint8]:
    """The frames of one clip, [F, H, W, C]."""
    _, (width, height) = image_sets.decoded(tree, items[0], 1, 1)
    scale = 1.0 if cut.size is None else cut.size / min(height, width)
    size: tuple[Any, ...] = (round(scale * height), round(scale * width), cut.channels)
    return np.stack([image_sets.image(tree, item, size, (height, width)) for item in items])
