"""Sources that read image files: a folder a class, and for video a folder a clip.

The first level under the root names the classes, in sorted order; names that start with a dot are
no part of the data. Links are followed. Files of other extensions are left out and counted in the
log. Everything else that cannot be used is set aside with its reason when its turn comes.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sid2core.data import decoding
from sid2core.data.errors import DataError, Unusable
from sid2core.data.records import Entry, is_text

_log = logging.getLogger(__name__)
_SHOWN = 5


@dataclass(frozen=True)
class Root:
    """The folder that holds the class folders, and the parameter that names it."""

    path: Path
    parameter: str

    def classes(self, layout: str) -> tuple[str, ...]:
        """The names of the class folders, sorted.

        Raises:
            DataError: there is no such folder, or it is not of the ``layout`` that is told.
        """
        wanted = f"expected {self.path}/{layout}"
        if not self.path.exists():
            msg = f"{self.parameter} {self.path} not found from {Path.cwd()}; {wanted}"
            raise DataError(f"{msg}: set {self.parameter} to such a folder")
        if not self.path.is_dir():
            msg = f"{self.parameter} {self.path} is no folder; {wanted}: unpack it into one"
            raise DataError(msg)
        items = _scan(self.path)
        names = tuple(name for name, is_folder in items if is_folder)
        if not names:
            msg = f"{self.parameter} {self.path} holds {len(items)} file(s) and no folder; {wanted}"
            raise DataError(f"{msg}: images of a single class need a folder as well")
        strange = [name for name in names if not is_text(name)]
        if strange:
            msg = f"class folder {strange[0]!r} of {self.path} has a name that is not UTF-8"
            raise DataError(f"{msg}; rename it")
        return names

    def left_out(self) -> Counter[str]:
        """Extensions of files that lie in no class folder."""
        return Counter(_extension(name) for name, is_folder in _scan(self.path) if not is_folder)

    def empty(self, found: Counter[str], layout: str, cure: str) -> DataError:
        """What to raise where the class folders hold nothing of use."""
        msg = (
            f"{self.parameter} {self.path} holds no {layout}; found {_told(found) or 'no file'}; "
            f"images are {' '.join(sorted(decoding.EXTENSIONS))}: {cure}"
        )
        return DataError(msg)


@dataclass(frozen=True)
class Folder:
    """Images as ``<class>/**/<image>``; the key is the path below the root."""

    root: Root
    size: int
    channels: int

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The class folders' names, sorted."""
        return self.root.classes("<class>/<image>")

    @property
    def decoding(self) -> Mapping[str, str]:
        """The choices that every image file is read by."""
        return decoding.FACTS

    @property
    def shape(self) -> tuple[int, ...]:
        """[h, w, c] as the parameters have it."""
        return (self.size, self.size, self.channels)

    def index(self) -> list[Entry]:
        """Every image file, class by class, sorted by name at every level."""
        names, other = self.class_names, self.root.left_out()
        entries = [
            Entry(key, label)
            for label, name in enumerate(names)
            for key in _images(self.root.path, name, other)
        ]
        if not entries:
            raise self.root.empty(other, "<class>/<image>", "convert them, or set another folder")
        _tell(self.root, other)
        return entries

    def image(self, entry: Entry) -> NDArray[np.uint8]:
        """One image [h, w, c], decoded as :mod:`sid2core.data.decoding` says."""
        return decoding.read(self.root.path / entry.key, self.size, self.channels)


@dataclass(frozen=True)
class Frames:
    """Clips as ``<class>/<clip>/<frame image>``; the key is ``<class>/<clip>``.

    A record is frames 0, stride, 2 stride and so on of the clip, in natural order of their names
    (``frame9`` before ``frame10``); whatever follows the last one is not read. Only the frames of
    one clip are listed and in memory at a time.
    """

    root: Root
    size: int
    channels: int
    frames: int
    stride: int

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The class folders' names, sorted."""
        return self.root.classes("<class>/<clip>/<frame image>")

    @property
    def decoding(self) -> Mapping[str, str]:
        """The choices that every image file is read by."""
        return decoding.FACTS

    @property
    def shape(self) -> tuple[int, ...]:
        """[f, h, w, c] as the parameters have it."""
        return (self.frames, self.size, self.size, self.channels)

    def index(self) -> list[Entry]:
        """Every clip's folder, class by class, sorted by name; its frames are not looked at."""
        names, other = self.class_names, self.root.left_out()
        entries = []
        for label, class_name in enumerate(names):
            for name, is_folder in _scan(self.root.path / class_name):
                if is_folder:
                    entries.append(Entry(f"{class_name}/{name}", label))
                else:
                    other[_extension(name)] += 1
        if not entries:
            cure = "give each clip a folder, or set data.source to folder for single images"
            raise self.root.empty(other, "<class>/<clip>/<frame image>", cure)
        _tell(self.root, other)
        return entries

    def image(self, entry: Entry) -> NDArray[np.uint8]:
        """One clip [f, h, w, c], each frame decoded as :mod:`sid2core.data.decoding` says."""
        folder = self.root.path / entry.key
        names = [name for name, is_folder in _scan(folder) if _is_image(name) and not is_folder]
        needed = (self.frames - 1) * self.stride + 1
        if len(names) < needed:
            msg = f"{len(names)} frame(s); {self.frames} at stride {self.stride} need {needed}"
            raise Unusable(msg)
        clip = np.empty(self.shape, np.uint8)
        for place, name in enumerate(sorted(names, key=natural)[: needed : self.stride]):
            try:
                clip[place] = decoding.read(folder / name, self.size, self.channels)
            except Unusable as error:
                msg = f"frame {name}: {error}"
                raise Unusable(msg) from None
        return clip


def natural(name: str) -> tuple[list[str | int], str]:
    """A key by which numbers in names sort as numbers; equal ones (1, 01) by the name itself."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _images(root: Path, folder: str, other: Counter[str], above: tuple = ()) -> Iterator[str]:
    """Keys of the image files below ``root / folder``; counts the other files by extension."""
    path = root / folder
    found = path.stat()
    here = (found.st_dev, found.st_ino)
    if here in above:
        msg = f"{path} is a link to a folder that it lies in; remove the link"
        raise DataError(msg)
    for name, is_folder in _scan(path):
        key = f"{folder}/{name}"
        if is_folder:
            yield from _images(root, key, other, (*above, here))
        elif _is_image(name):
            yield key
        else:
            other[_extension(name)] += 1


def _scan(folder: Path) -> list[tuple[str, bool]]:
    """What ``folder`` holds, sorted, without hidden files: names, and whether each is a folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as items:
            return sorted(
                (item.name, _is_folder(item)) for item in items if not item.name.startswith(".")
            )
    except OSError as error:
        msg = f"{folder} cannot be listed ({error.strerror}); see to its permissions and its disk"
        raise DataError(msg) from error


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link in a circle; as a file it will be set aside with this reason
        return False


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no extension"


def _is_image(name: str) -> bool:
    return _extension(name) in decoding.EXTENSIONS


def _told(extensions: Counter[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in extensions.most_common(_SHOWN))


def _tell(root: Root, other: Counter[str]) -> None:
    if other:
        _log.warning(
            "%d file(s) under %s are no images in their place and left out (%s)",
            other.total(),
            root.path,
            _told(other),
        )
