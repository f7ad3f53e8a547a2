"""The source ``videos``: files of any container that FFmpeg reads, GIF and animated WebP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sid2core import config
from sid2core.config.data import Labelled
from sid2core.config.data import Videos as VideosSettings
from sid2core.data.decode.video import decoding, files
from sid2core.data.sources.folders import Folder, planted
from sid2core.data.sources.protocol import Content, Entry, key_of
from sid2core.data.sources.video.clips import Reader
from sid2core.data.storage.trees import Item, walk


@dataclass(frozen=True)
class Videos(Folder):
    """Videos as ``<class>/**/<video>``, or flat; classes, labels and archives as for images.

    The key of a clip is the path of its video below the root, ``#`` and its number.
    """

    reader: Reader | None = None

    @classmethod
    def of(cls, settings: Labelled, *, data: config.Data, part: str) -> Videos:
        """The source: the tree at the parameter ``part``."""
        assert isinstance(settings, VideosSettings)
        key = key_of(data.source.name, part)
        tree = planted(getattr(settings, part), key, "<class>/<video>")
        source = cls._at(tree, settings, data, part, ".*")
        assert isinstance(source, Videos)
        reader = Reader.of(tree, settings, data)
        return replace(source, reader=reader, grouped=reader.grouped)

    @property
    def clips(self) -> Reader:
        """Reads the clips."""
        assert self.reader is not None
        return self.reader

    @property
    def shape(self) -> tuple[int, ...]:
        """[f, h, w, c] as the parameters have it."""
        return self.clips.shape

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The choices that every video is read by."""
        return {**super().metadata, **decoding.metadata(self.clips.windows)}

    def index(self) -> list[Entry]:
        """Every clip, class by class, sorted by name at every level."""
        return list(self.clips.entries(super().index()))

    def read(self, entry: Entry) -> Content:
        """One clip [f, h, w, c], as :mod:`sid2core.data.decode.video.decoding` says."""
        return self.clips.read(entry.place)

    @property
    def _layout(self) -> str:
        return "<class>/<video>"

    @property
    def _cure(self) -> str:
        return (
            f"set {self.parameter} to where videos are; of folders of frame images "
            "data.source.name is frames"
        )

    def _name_problem(self, item: Item) -> str | None:
        return files.name_problem(item.name)

    def _holds_images(self, top: Item) -> bool:
        below = [item for item in walk(self.tree, top) if not item.is_folder and not item.problem]
        return any(files.name_problem(item.name) is None for item in below)
