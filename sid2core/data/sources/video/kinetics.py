"""The source ``kinetics``: the video files of Kinetics, and the CSV files that label them."""

from __future__ import annotations

import csv
import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sid2core import config
from sid2core.config.data import Kinetics as KineticsSettings
from sid2core.data.decode.video import decoding, files
from sid2core.data.errors import DataError
from sid2core.data.sources import classes
from sid2core.data.sources.fields import Fields
from sid2core.data.sources.folders import planted
from sid2core.data.sources.protocol import Content, Entry, beside, key_of
from sid2core.data.sources.video.clips import Reader
from sid2core.data.storage import paths
from sid2core.data.storage.trees import ROOT, Item, Tree, walk

_NAME = re.compile(r"(.+)_([0-9]{6})_([0-9]{6})\.[A-Za-z0-9]+")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_SPLITS = {
    "train": "train",
    **dict.fromkeys(("val", "valid", "validate", "validation", "eval"), "eval"),
    "test": None,
}
"""The split here for each one in the CSV files; the test split is not used."""


class Segment(NamedTuple):
    """What a name of a file says: the video and the seconds of it."""

    video: str
    start: int
    end: int


class Row(NamedTuple):
    """What the CSV files say about a segment."""

    label: str
    split: str | None
    """``train`` or ``eval``; None for the test split."""


@dataclass(frozen=True)
class Kinetics:
    """Files ``{youtube_id}_{start:06}_{end:06}.mp4`` anywhere below the path.

    The CSV files say the class and the split of each. Files of the test split are not used; with
    ``eval_path``, neither are those under one path that belong to the split of the other. Rows
    without a file are counted, because much of Kinetics is gone from the web.
    """

    tree: Tree
    reader: Reader
    parameter: str
    tables: tuple[str, ...]
    splits: tuple[str, ...]
    """The splits that are read: one, or both if there is no ``eval_path``."""
    unlabelled: bool = False
    captioned: bool = False
    fixed: bool = False

    @classmethod
    def of(cls, settings: KineticsSettings, *, data: config.Data, part: str) -> Kinetics:
        """The source: the tree at the parameter ``part``."""
        key = key_of(data.source.name, part)
        tree = planted(getattr(settings, part), key, "<id>_<start>_<end>.mp4")
        both, own = settings.eval_path is None, "train" if part == "path" else "eval"
        tables = (settings.csv,) if isinstance(settings.csv, str) else tuple(settings.csv)
        splits = ("train", "eval") if both else (own,)
        reader = Reader.of(tree, settings, data)
        return cls(tree, reader, key, tables, splits, data.unlabelled)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The labels of the training and the validation split, sorted."""
        if self.unlabelled:
            return (classes.UNLABELLED,)
        return classes.ordered(row.label for row in self._rows.values() if row.split is not None)

    @property
    def fields(self) -> Fields:
        """The column ``label``; classes without a file are dropped."""
        return Fields(None if self.unlabelled else "label", spare_classes=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """[f, h, w, c] as the parameters have it."""
        return self.reader.shape

    @property
    def grouped(self) -> bool:
        """Whether clips of one video are read together."""
        return self.reader.grouped

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The choices that every video is read by."""
        return {**self.reader.recipe.metadata, **decoding.metadata(self.reader.windows)}

    @functools.cached_property
    def counts(self) -> Mapping[str, int]:
        """Rows of the CSV files, those without a file, and files of splits that are not read."""
        found = Counter(segment for _, segment in self._files if segment is not None)
        read = [one for one, row in self._rows.items() if row.split in self.splits]
        return {
            "csv_rows": len(read),
            "missing_videos": sum(one not in found for one in read),
            "videos_of_other_splits": sum(self._elsewhere(one) for _, one in self._files),
        }

    def index(self) -> list[Entry]:
        """Every clip of every file, sorted by path."""
        where = f"{self.parameter} {self.tree.root}"
        entries = list(self.reader.entries(self._videos()))
        cure = f"set {self.parameter} to where they are, and {self._key} to their CSV files"
        return classes.settled(entries, self.class_names, where, "<id>_<start>_<end>.mp4", cure)

    def stamp(self) -> str:
        """Of all names, sizes and times, and of the CSV files."""
        return paths.digest([self.tree.stamp(), *map(paths.mark, self.tables)])

    def read(self, entry: Entry) -> Content:
        """One clip [f, h, w, c], as :mod:`sid2core.data.decode.video.decoding` says."""
        return self.reader.read(entry.place)

    @property
    def _key(self) -> str:
        return beside(self.parameter, "csv")

    def _videos(self) -> Iterator[Entry]:
        """An entry for each file that is not of another split."""
        numbers = classes.numbers(self.class_names)
        settled = len({row.split for row in self._rows.values()} & {"train", "eval"}) == 2
        for item, segment in self._files:
            if self._elsewhere(segment):
                continue
            row = None if segment is None else self._rows.get(segment)
            problem = item.problem or files.name_problem(item.name)
            if problem is None and segment is None:
                problem = "its name is not <youtube_id>_<start>_<end>"
            if problem is None and row is None:
                problem = f"{self._key} does not name it"
            name = classes.UNLABELLED if self.unlabelled else "" if row is None else row.label
            split = row.split if row is not None and settled and len(self.splits) == 2 else None
            label = numbers.get(classes.normal(name), -1) if problem is None else -1
            yield Entry(item.path, label, item.place, problem=problem, split=split)

    def _elsewhere(self, segment: Segment | None) -> bool:
        """Whether a file belongs to a split that is not read here."""
        row = None if segment is None else self._rows.get(segment)
        return row is not None and row.split not in self.splits

    @functools.cached_property
    def _files(self) -> list[tuple[Item, Segment | None]]:
        found = (item for item in walk(self.tree, ROOT) if not item.is_folder)
        return [(item, _segment(item.name)) for item in found if not self._is_table(item)]

    def _is_table(self, item: Item) -> bool:
        path = paths.join(self.tree.root, item.path)
        return any(paths.same(table, path) for table in self.tables)

    @functools.cached_property
    def _rows(self) -> dict[Segment, Row]:
        rows: dict[Segment, Row] = {}
        for table in self.tables:
            rows |= _read(table, self._key)
        return rows


def _segment(name: str) -> Segment | None:
    match = _NAME.fullmatch(name)
    return None if match is None else Segment(match[1], int(match[2]), int(match[3]))


def _read(path: str, key: str) -> dict[Segment, Row]:
    """The rows of one CSV file.

    Raises:
        DataError: it is missing, lacks a column, or a row has no such values.
    """
    lines = paths.text(path, key).splitlines()
    table = csv.DictReader(lines, skipinitialspace=True)
    lacking = [name for name in _COLUMNS if name not in (table.fieldnames or ())]
    if lacking:
        msg = f"{key} {path} has no column {', '.join(lacking)}; expected {','.join(_COLUMNS)}"
        raise DataError(f"{msg}, as the CSV files of Kinetics have")
    rows: dict[Segment, Row] = {}
    for row in table:
        try:
            times = int(float(row["time_start"])), int(float(row["time_end"]))
            split = _SPLITS[row["split"].strip().lower()]
            segment = Segment(row["youtube_id"].strip(), *times)
            label = classes.normal(row["label"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = (
                f"{key} {path}, line {table.line_num}: found {dict(row)}; expected a label, "
                f"seconds, and a split of {', '.join(_SPLITS)}: correct the line"
            )
            raise DataError(msg) from error
        rows[segment] = Row(label, split)
    return rows
