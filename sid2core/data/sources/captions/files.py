"""Captions of image files: a text file beside each, or a table in some folder above it."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from sid2core.data.decode import formats
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import coco
from sid2core.data.sources.captions import near, tables, texts
from sid2core.data.sources.captions.near import SIDECARS
from sid2core.data.sources.classes import normal
from sid2core.data.sources.fields import CAPTION_KEY, CAPTIONS_KEY, Asked, require
from sid2core.data.sources.protocol import CaptionFiles
from sid2core.data.storage.trees import ROOT, Item, Tree, walk

_log = logging.getLogger(__name__)
ORPHAN = "a caption without an image"
_BOXES = re.compile(r"(\d+(\s+-?[\d.]+){4,}\s*)+")
_PROBED = 8
_TABLE = 2**29
"""Bytes of a table at most."""


class Described(NamedTuple):
    """Where an image and its captions are."""

    image: Any
    texts: tuple[str, ...]
    """Those of tables."""
    files: tuple[tuple[str, Any], ...]
    """Path and place of each text file."""


@dataclass(frozen=True, eq=False)
class Found:
    """The captions of a tree."""

    captioned: bool = False
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those of tables, by the image's path."""
    files: Mapping[str, tuple[tuple[str, Any], ...]] = field(default_factory=dict)
    """Text files, by the image's path."""
    used: frozenset[str] = frozenset()
    """Paths of files that are not images, because they are captions, read or not."""
    lost: frozenset[str] = frozenset()
    """Paths of text files without an image."""
    columns: tuple[str, ...] = ()
    """The columns of tables that are not read."""
    report: CaptionFiles = CaptionFiles()

    def problem(self, item: Item) -> str | None:
        """Why a file is no image, or None if its content has to decide."""
        if self.captioned and item.path in self.lost:
            return ORPHAN
        return formats.name_problem(item.name)

    def place(self, item: Item) -> Described:
        """Where an image and its captions are."""
        return Described(item.place, self.texts.get(item.path, ()), self.files.get(item.path, ()))


@dataclass(frozen=True)
class FileCaptions:
    """The captions in a tree of images, found when they are first asked for.

    An image's captions are ``name.txt`` and ``name.caption`` beside it, each file one caption (or
    one a line, if asked), and the rows of every ``metadata.jsonl`` and ``metadata.csv``.
    """

    tree: Tree
    asked: Asked
    where: str

    def __getstate__(self) -> dict[str, Any]:
        """Without what was found: workers read by the places of entries."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @functools.cached_property
    def found(self) -> Found:
        """All captions, by the names of all files.

        Raises:
            DataError: a table cannot be read, a column that the parameters name does not exist, or
                text files hold no captions but boxes.
        """
        items = [item for item in walk(self.tree, ROOT) if not (item.is_folder or item.problem)]
        images = _Images(items)
        files, lost, unread = self._sidecars(items, images)
        named = [item for item in items if item.name in tables.NAMES]
        if not self.asked.captions:
            return Found(used=frozenset(unread), columns=self._columns(named))
        every = {item.path: self._table(item) for item in named}
        read = {path: table for path, table in every.items() if table.columns}
        self._check_columns(every.values(), [path for some in files.values() for path, _ in some])
        rows, described, absent = 0, dict[str, tuple[str, ...]](), list[str]()
        for row in itertools.chain.from_iterable(table.rows for table in read.values()):
            rows += 1
            matches = images.of(row.path)
            absent += [] if matches else [row.path]
            for image in matches:
                described[image] = (*described.get(image, ()), *row.captions)
        captioned = bool(rows or files)
        own = {path for some in files.values() for path, _ in some}
        others = [item.path for item in items if item.path not in images.paths]
        suggestions = [
            *near.of_tables(path for path in others if path not in own),
            *near.of_extensions(others, images.by_stem),
            *([] if files else near.of_folders(lost, images.names)),
            *([] if captioned else coco.of_captions(others)),
            *near.of_sidecars(lost, {_stem(path).lower(): path for path in images.paths}),
            *near.of_rows(absent, images.paths),
            *near.of_encoded(absent, images.paths),
            *near.of_other_extensions(absent, images.by_stem),
        ]
        if not captioned:
            for path, table in every.items():
                suggestions += near.of_columns(table.unused, path)
        else:
            bare = [
                _stem(path) for path in images.paths if not (path in files or path in described)
            ]
            unlike = [_stem(one) for one in (*lost, *absent) if _stem(one) not in images.by_stem]
            suggestions += near.of_images(unlike, bare)
        latents = {one.path for one in items if images.has_latents(one)}
        if latents:
            _log.info("%s: %d .npz files beside images are not read", self.where, len(latents))
        used = {*own, *read, *unread, *latents}
        json_files = [one for one in items if images.has_json(one)]
        if captioned and json_files:
            used |= {one.path for one in json_files}
            _log.info("%s: %d .json files beside images are not read", self.where, len(json_files))
        elif json_files and self._has_caption(json_files[0]):
            suggestions.append(
                f"{len(json_files)} .json files such as {json_files[0].path} hold captions "
                f"that are not read; expected {tables.NAMES[0]} or .txt files"
            )
        without = (*(lost if captioned else ()), *absent)
        report = CaptionFiles(len(without), without[:_PROBED], tuple(suggestions))
        unused = (one for table in every.values() for one in table.unused)
        columns = tuple(dict.fromkeys(unused))
        return Found(captioned, described, files, frozenset(used), frozenset(lost), columns, report)

    def read(self, place: Described) -> tuple[str, ...]:
        """The captions of an image.

        Raises:
            Unusable: a file cannot be read, or holds no text; the reason names its extension.
        """
        found = list(place.texts)
        for path, inner in place.files:
            try:
                found += texts.of_file(
                    self._content(path, inner, texts.LIMIT), lines=self.asked.lines
                )
            except Unusable as error:
                msg = f"its {os.path.splitext(path)[1]} is {error}"
                raise Unusable(msg) from None
        return tuple(found)

    def _sidecars(
        self, items: Iterable[Item], images: _Images
    ) -> tuple[Mapping[str, tuple[tuple[str, Any], ...]], list[str], list[str]]:
        """Text files by the image that they lie beside; those beside none; those not asked for.

        Raises:
            DataError: they hold boxes.
        """
        asked, lost, unread = self.asked.caption, list[str](), list[str]()
        found = dict[str, tuple[tuple[str, Any], ...]]()
        for item in items:
            extension = os.path.splitext(item.name)[1].lower()
            if extension not in SIDECARS:
                continue
            matches = images.by_stem.get(normal(_stem(item.path)), ())
            if not matches:
                lost.append(item.path)
            elif not self.asked.captions or (asked and extension[1:] not in asked):
                unread.append(item.path)
            else:
                found |= {path: (*found.get(path, ()), (item.path, item.place)) for path in matches}
        self._check_boxes([some[0] for some in itertools.islice(found.values(), _PROBED)])
        if unread:
            _log.info("%s: %d text files beside images are not read", self.where, len(unread))
        return found, lost, unread

    def _has_caption(self, item: Item) -> bool:
        """Whether a JSON file beside an image has a usual key of captions."""
        try:
            found = json.loads(self._content(item.path, item.place, texts.LIMIT))
        except (Unusable, ValueError, RecursionError):
            return False
        return isinstance(found, dict) and bool(Asked().caption_fields(found))

    def _check_boxes(self, files: Sequence[tuple[str, Any]]) -> None:
        try:
            contents = [self._content(path, place, texts.LIMIT) for path, place in files]
            boxes = [_BOXES.fullmatch(texts.decoded(content).strip()) for content in contents]
        except Unusable:
            return
        if boxes and all(boxes):
            msg = (
                f"{self.where}: text files such as {files[0][0]} hold numbers, as YOLO writes boxes"
            )
            raise DataError(f"{msg}, and no captions: set {CAPTIONS_KEY} to none")

    def _table(self, item: Item) -> tables.Table:
        where = f"{self.where}: {item.path}"
        try:
            content = self._content(item.path, item.place, _TABLE)
        except Unusable as error:
            msg = f"{where} cannot be read: {error}"
            raise DataError(msg) from None
        if len(content) > _TABLE:
            msg = f"{where} has more than {_TABLE} bytes: write a table in each of several folders"
            raise DataError(msg)
        return tables.read(content, item.path, where, self.asked)

    def _columns(self, named: Iterable[Item]) -> tuple[str, ...]:
        """The columns of tables that are not read; a table that cannot be read is reported."""
        found = dict[str, None]()
        for item in named:
            try:
                found |= dict.fromkeys(self._table(item).unused)
            except DataError as error:
                _log.warning("%s; its columns are not checked for labels", error)
        return tuple(found)

    def _content(self, path: str, place: Any, limit: int) -> bytes:
        """The bytes of a file, one more than ``limit`` at most."""
        with self.tree.open(path, place) as file:
            return file.read(limit + 1)

    def _check_columns(self, read: Iterable[tables.Table], files: Iterable[str]) -> None:
        """Every field that the parameters name must be somewhere.

        Raises:
            DataError: one is not.
        """
        present = {name for table in read for name in table.present}
        present |= {os.path.splitext(path)[1][1:].lower() for path in files}
        for name in self.asked.caption:
            require(name, sorted(present), self.where, CAPTION_KEY)


class _Images:
    """The files that may be images, by their names."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.paths = dict.fromkeys(
            item.path
            for item in items
            if formats.is_usual(item.name)
            or not (os.path.splitext(item.name)[1] or formats.name_problem(item.name))
        )
        self.by_stem = dict[str, tuple[str, ...]]()
        for path in self.paths:
            stem = normal(_stem(path))
            self.by_stem[stem] = (*self.by_stem.get(stem, ()), path)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The last parts of the paths, without extensions."""
        return frozenset(stem.rpartition("/")[2] for stem in self.by_stem)

    def has_json(self, item: Item) -> bool:
        """Whether a file is JSON about an image, such as img2dataset writes beside each."""
        stem, extension = os.path.splitext(item.path)
        return extension.lower() == ".json" and normal(stem) in self.by_stem

    def has_latents(self, item: Item) -> bool:
        """Whether a file is what kohya's trainers compute of an image and keep beside it.

        Such are ``a.npz`` and ``a_0512x0768_sdxl.npz`` of ``a.png``.
        """
        stem, extension = os.path.splitext(item.path)
        parts = normal(stem).split("_")
        return extension.lower() == ".npz" and any(
            "_".join(parts[:end]) in self.by_stem for end in range(len(parts), 0, -1)
        )

    def of(self, path: str) -> tuple[str, ...]:
        """The images that a row of a table names, with the extension, in any case, or without."""
        same = self.by_stem.get(_stem(path), ())
        exact = tuple(one for one in same if normal(one) == path)
        exact = exact or tuple(one for one in same if normal(one).lower() == path.lower())
        return exact or (same if not formats.is_usual(path) else ()) or self.by_stem.get(path, ())


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]
