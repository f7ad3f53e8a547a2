"""What there is at a path: which source reads it, how many images of which size and colours.

Only the names of all files are read, and a few pictures among them are decoded.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import yaml_edit
from sid2core.data.decode.video import files as video_files
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import opening, split_names
from sid2core.data.sources.protocol import Entry, Source, listed
from sid2core.data.storage.trees import hidden

PROBES = 64
"""Pictures that are decoded, spread over the whole set."""
_SIDE = 64
_GREY = 2
"""Channels that differ by no more than this, of 255, are the same: JPEG is not exact."""
_TRAIN, _EVAL = ("train", "training"), ("val", "valid", "validation", "eval", "test")
_FRAMES = 16
"""Of a clip of a video, at the video's own rate."""
_SEEN = 5000
"""Names after which the kind of a folder is decided."""
_KINDS = {
    ".parquet": "parquet",
    ".npz": "arrays",
    ".npy": "arrays",
    ".tar": "webdataset",
    ".zip": "folder",
}


@dataclass(frozen=True)
class Survey:
    """What was found."""

    source: Mapping[str, Any]
    """The section ``data.source``: the name and the sub-section of that name."""
    train: int
    """Images that can be used, before a split."""
    eval: int | None
    """Those of a separate eval split, if there is one."""
    problems: int
    """Files that cannot be used, as far as their names show."""
    class_names: tuple[str, ...]
    smallest_class: int
    side: int
    """Median of the shorter side in pixels."""
    channels: int
    """1 if every probed picture is grey, else 3."""
    captioned: bool
    seconds: float
    """Time to read and decode one picture on one core."""
    tried: int = 0
    """Files that were decoded, spread over the set."""
    undecodable: int = 0
    """Those of them that cannot be."""
    images_with_captions: int | None = None
    """Of those that can be used; None if only reading them tells."""
    captions: tuple[str, ...] = ()
    """Those of the probed pictures."""

    @property
    def frames(self) -> int | None:
        """Frames of a clip; None for images."""
        found: int | None = self.source[self.source["name"]].get("frames")
        return found

    def shape(self, size: int) -> tuple[int, ...]:
        """The shape of an image or clip of ``size`` pixels a side."""
        frames = () if self.frames is None else (self.frames,)
        return (*frames, size, size, self.channels)

    @property
    def condition(self) -> ConditionSpec:
        """What a model of these data is conditioned on, apart from captions."""
        shape = self.shape(_SIDE)
        metadata = {"class_names": self.class_names, "captioned": self.captioned, "shape": shape}
        return ConditionSpec.of_data(metadata)


def survey(path: str, raw: Mapping[str, Any]) -> Survey:
    """Look at the data at ``path``; labels of captioned data are left out.

    Args:
        path: a folder, an archive or a file.
        raw: the parameters that the section ``data`` is merged into, as read from YAML.

    Raises:
        DataError: there is nothing that a source reads.
    """
    found = source_of(os.path.abspath(os.path.expanduser(path)))
    data = _section(raw, found, unlabelled=False)
    train, held_out = opening.opened(data)
    captioned = data.captions != "none" and train.captioned
    if captioned:
        train, held_out = opening.opened(_section(raw, found, unlabelled=True))
    entries = listed(train)
    usable = [entry for entry in entries if entry.problem is None]
    classes = Counter(entry.label for entry in usable)
    probed = _probe(train, usable)
    return Survey(
        source=found,
        train=len(usable),
        eval=None if held_out is None else len(listed(held_out)),
        problems=len(entries) - len(usable),
        class_names=train.class_names,
        smallest_class=min(classes.values(), default=0),
        side=round(statistics.median(probed.sides)),
        channels=1 if probed.grey else 3,
        captioned=captioned,
        seconds=probed.seconds,
        tried=probed.tried,
        undecodable=probed.tried - len(probed.sides),
        images_with_captions=_described(usable) if captioned else 0,
        captions=probed.captions if captioned else (),
    )


def _section(raw: Mapping[str, Any], source: Mapping[str, Any], *, unlabelled: bool) -> config.Data:
    """The section ``data`` with this source."""
    shape = {"image_size": _SIDE, "channels": 3, "crop": "squash"}
    overlay = {"data": {"source": source, "unlabelled": unlabelled, **shape}}
    return config.parse(yaml_edit.merged(raw, overlay)).data


def _described(usable: list[Entry]) -> int | None:
    known = [entry.captioned for entry in usable]
    return None if None in known else sum(map(bool, known))


def source_of(path: str) -> dict[str, Any]:
    """The section ``data.source`` for an absolute path.

    Raises:
        DataError: nothing is there, or nothing that a source reads.
    """
    if not os.path.exists(path):
        msg = f"--for {path}: there is no such file or folder"
        raise DataError(msg)
    train, held_out = _splits(path)
    name = _kind(train)
    clips = {"frames": _FRAMES} if name == "videos" else {}
    return {"name": name, name: {"path": train, "eval_path": held_out, **clips}}


def _splits(path: str) -> tuple[str, str | None]:
    """The path of the train split and that of the eval split, if the folder has both."""
    if not os.path.isdir(path):
        return path, None
    folders = [one.name for one in os.scandir(path) if one.is_dir() and not hidden(one.name)]
    splits = [os.path.join(path, name) for name in split_names.among(sorted(folders)).values()]
    if splits:
        return splits[0], splits[1] if len(splits) > 1 else None
    for start in _TRAIN:
        if any(Path(path).glob(f"{start}-*.parquet")):
            others = (one for one in _EVAL if any(Path(path).glob(f"{one}-*.parquet")))
            other = next(others, None)
            return os.path.join(path, f"{start}-*.parquet"), other and os.path.join(
                path, f"{other}-*.parquet"
            )
    return path, None


def _kind(path: str) -> str:
    """The name of the source that reads ``path``."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _KINDS and not os.path.isdir(path):
        return _KINDS[suffix]
    if not os.path.isdir(path):
        msg = f"--for {path}: expected a folder of images, or a file of {', '.join(sorted(_KINDS))}"
        raise DataError(msg)
    suffixes: Counter[str] = Counter()
    for _, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        suffixes.update(os.path.splitext(name)[1].lower() for name in files)
        if suffixes.total() > _SEEN:
            break
    packed = [(suffixes[suffix], kind) for suffix, kind in _KINDS.items() if suffixes[suffix]]
    images = suffixes.total() - sum(count for count, _ in packed)
    videos = sum(suffixes[suffix] for suffix in video_files.EXTENSIONS - video_files.PICTURES)
    if 2 * videos > suffixes.total():
        return "videos"
    if packed and images <= 2 * max(packed)[0] and max(packed)[1] != "folder":
        return max(packed)[1]
    return "folder"


class _Probe(NamedTuple):
    """Files tried, shorter sides of those decoded, whether all is grey, seconds each, captions."""

    tried: int
    sides: list[int]
    grey: bool
    seconds: float
    captions: tuple[str, ...]


def _probe(source: Source, usable: list[Entry]) -> _Probe:
    """Look at pictures that are spread over the set."""
    sides, grey, since = list[int](), True, time.perf_counter()
    captions = list[str]()
    chosen = usable[:: max(1, len(usable) // PROBES)][:PROBES]
    for entry in chosen:
        try:
            content = source.read(entry)
        except Unusable:
            continue
        pixels = content.image.astype(np.int16)
        sides.append(min(content.size))
        captions += content.captions
        grey &= int(np.ptp(pixels, axis=-1).max()) <= _GREY
    if not sides:
        msg = f"none of {len(chosen)} files that were tried is an image; see docs/data.md"
        raise DataError(msg)
    seconds = (time.perf_counter() - since) / len(sides)
    return _Probe(len(chosen), sides, grey, seconds, tuple(captions))
