"""What sources of video files share: the clips of one video are its entries."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from sid2core import config
from sid2core.data.decode.decoding import Recipe
from sid2core.data.decode.video import decoding
from sid2core.data.decode.video.windows import Windows
from sid2core.data.errors import Unusable
from sid2core.data.sources.protocol import GROUPS_AT_HAND, Content, Entry
from sid2core.data.storage.trees import Tree


class Place(NamedTuple):
    """Where a clip is."""

    path: str
    """Of its video below the root."""
    place: Any
    """How the tree opens the video."""
    number: int
    """Of the clip among those of its video, from 0."""


@dataclass(frozen=True)
class Reader:
    """Reads clips of the videos in a tree.

    Of videos with several clips it keeps those that were read last, finished clips alone: the
    clips of at most :data:`GROUPS_AT_HAND` videos. One file is open at a time.
    """

    tree: Tree
    recipe: Recipe
    windows: Windows

    @classmethod
    def of(cls, tree: Tree, settings: config.data.Windows, data: config.Data) -> Reader:
        """As the parameters say.

        Raises:
            DataError: PyAV is not installed.
        """
        decoding.check_installed()
        sizes = (settings.frames, settings.frame_stride, settings.frames_per_second)
        return cls(tree, Recipe.of(data), Windows(*sizes, settings.clips_per_video))

    @property
    def shape(self) -> tuple[int, ...]:
        """[f, h, w, c] of a clip."""
        return (self.windows.frames, *self.recipe.shape)

    @property
    def grouped(self) -> bool:
        """Whether clips of one video are read together."""
        return self.windows.per_video > 1

    def entries(self, videos: Iterable[Entry]) -> Iterator[Entry]:
        """An entry for each clip of ``videos``, with keys such as ``cat/1.mp4#0``.

        A video that cannot be used is one entry of its own.
        """
        for group, video in enumerate(videos):
            if video.problem is not None:
                yield replace(video, group=group, video=video.key)
                continue
            for number in range(self.windows.per_video):
                place = Place(video.key, video.place, number)
                key = f"{video.key}#{number}"
                yield replace(video, key=key, place=place, group=group, video=video.key)

    def read(self, place: Place) -> Content:
        """The clip at ``place``.

        Raises:
            Unusable: there is none.
        """
        read = _kept if self.grouped else _read
        found = read(self, place.path, place.place)
        if place.number >= len(found):
            msg = (
                f"the video has room for {len(found)} different clip(s) of "
                f"data.source.*.clips_per_video {self.windows.per_video}"
            )
            raise Unusable(msg)
        content = found[place.number]
        return replace(content, image=np.array(content.image))


def _read(reader: Reader, path: str, place: Any) -> list[Content]:
    """All clips of a video."""
    with reader.tree.open(path, place) as file:
        return decoding.clips(file, reader.recipe, reader.windows)


_kept = functools.lru_cache(maxsize=GROUPS_AT_HAND)(_read)
