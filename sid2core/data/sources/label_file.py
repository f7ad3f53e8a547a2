"""A CSV file of labels: which file has which class."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sid2core.data.decode import formats
from sid2core.data.errors import DataError
from sid2core.data.sources import fields
from sid2core.data.sources.classes import normal
from sid2core.data.sources.fields import Asked
from sid2core.data.storage import paths
from sid2core.errors import few

_BOXES = re.compile(r"(n\d{8})(\s+\d+){4}(\s+n\d{8}(\s+\d+){4})*\s*")
_DELIMITERS = "\t;,"
_PROBED = 20
"""Lines that decide about the delimiter and the columns."""
_FILES = (
    *("filename", "file_name", "file", "filepath", "file_path", "path", "image_path", "image_id"),
    *("imageid", "image_name", "image", "img", "name", "key", "id"),
)
_INDEX = ("", "unnamed: 0", "index")


class LabelFile(NamedTuple):
    """What a CSV file says."""

    labels: Mapping[str, str]
    """The class of each file, by its path or name."""
    fields: fields.Fields


class _Columns(NamedTuple):
    name: int
    label: int
    header: Sequence[str] | None

    @property
    def fields(self) -> fields.Fields:
        if self.header is None:
            return fields.Fields("column 2")
        used = (self.name, self.label)
        ignored = (name for place, name in enumerate(self.header) if place not in used and name)
        return fields.Fields(self.header[self.label], tuple(ignored))


def read(path: str, key: str, asked: Asked) -> LabelFile:
    """The class of each file that a CSV file of ``name,class`` names.

    The delimiter is a comma, a semicolon or a tab. A header, an index column and further columns
    are allowed; see :func:`_columns`. Of ImageNet's ``n03995372 85 1 499 272``, a class and the
    box around it, the class counts.

    Args:
        path: the file.
        key: the parameter that names it.
        asked: the columns that the parameters name.

    Raises:
        DataError: it is missing or not such a file, gives a file two classes, or its columns are
            ambiguous.
    """
    lines = paths.text(path, key).splitlines()
    where = f"{key} {path}"
    try:
        rows = _rows(lines, _delimiter(lines))
        first = [row for _, row in zip(range(_PROBED), (row for _, row in rows), strict=False)]
        columns = _columns(first, asked, where)
        rows = _rows(lines, _delimiter(lines))
        if columns.header is not None:
            next(rows)
        return LabelFile(_labels(rows, columns, where), columns.fields)
    except csv.Error as error:
        msg = f"{where} is not a CSV file ({error}); expected lines of name,class"
        raise DataError(msg) from error


def looked_up(labels: Mapping[str, str], path: str) -> str | None:
    """The entry of a file: by path or by name alone, each with its extension or without."""
    path = normal(path)
    name = path.rpartition("/")[2]
    for key in (path, _stem(path), name, _stem(name)):
        if key in labels:
            return labels[key]
    return None


def _rows(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with its line number."""
    for number, row in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
        if row:
            yield number, [cell.strip() for cell in row]


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that gives the first lines equally many cells, else a comma."""
    some = [line for line in lines if line.strip()][:_PROBED]
    for delimiter in _DELIMITERS:
        widths = {len(row) for _, row in _rows(some, delimiter)}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return ","


def _columns(first: Sequence[Sequence[str]], asked: Asked, where: str) -> _Columns:
    """Which column has the names of files and which one the classes, by the first rows.

    The parameters decide, else the header's usual words, else the first cell with the extension of
    an image, else the first two columns. Columns that only number the rows do not count.

    Raises:
        DataError: the parameters name a column that does not exist, or several may be the class.
    """
    header = _header(first, asked)
    if header is None:
        for asked_name, key in ((asked.image, fields.IMAGE_KEY), (asked.label, fields.LABEL_KEY)):
            if asked_name is not None:
                fields.require(asked_name, first[0] if first else (), where, key)
        found = _first_image(first[0]) if first else None
        name = int(_is_numbered(first)) if found is None else found
        last = bool(first) and name + 1 == len(first[0])
        return _Columns(name, 0 if last and name else name + 1, None)
    if asked.image is not None:
        fields.require(asked.image, header, where, fields.IMAGE_KEY)
        name = header.index(asked.image)
    else:
        found = _first_image(first[1]) if len(first) > 1 else None
        lower = [cell.casefold() for cell in header]
        name = next((lower.index(word) for word in _FILES if word in lower), found or 0)
    others = [
        place
        for place, cell in enumerate(header)
        if place != name and cell.casefold() not in _INDEX
    ]
    names = [header[place] for place in others]
    likely = names if len(names) == 1 else [one for one in names if fields.is_label_like(one)]
    chosen = fields.label(asked._replace(unlabelled=False), likely, names, where, "label")
    if chosen is None:
        msg = f"{where} has columns {few(header)}: set {fields.LABEL_KEY} to that of the classes"
        raise DataError(msg)
    return _Columns(name, others[names.index(chosen)], header)


def _header(first: Sequence[Sequence[str]], asked: Asked) -> Sequence[str] | None:
    """The first row if it names columns."""
    if not first or len(first[0]) < 2:
        return None
    row = first[0]
    named = any(cell.casefold() in _FILES for cell in row) or row[0].casefold() in _INDEX
    named = named or any(name in row for name in (asked.image, asked.label) if name)
    no_image = _first_image(row) is None
    below = len(first) > 1 and _first_image(first[1]) is not None
    return row if no_image and (named or below) else None


def _first_image(row: Sequence[str]) -> int | None:
    """The first cell that ends like the name of an image file."""
    ends = (os.path.splitext(cell)[1].lower() in formats.EXTENSIONS for cell in row)
    return next((place for place, fits in enumerate(ends) if fits), None)


def _is_numbered(first: Sequence[Sequence[str]]) -> bool:
    """Whether the first of at least three columns counts the rows, from 0 or 1."""
    if len(first) < 2 or any(len(row) < 3 for row in first):
        return False
    cells = [row[0] for row in first]
    return any(cells == [str(start + row) for row in range(len(cells))] for start in (0, 1))


def _labels(
    rows: Iterator[tuple[int, list[str]]], columns: _Columns, where: str
) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for number, row in rows:
        if len(row) <= max(columns.name, columns.label):
            msg = f"{where}, line {number}: found {few(row)!r}; expected name,class"
            raise DataError(msg)
        name, label = normal(row[columns.name]).removeprefix("./"), row[columns.label]
        boxes = _BOXES.fullmatch(label)
        label = boxes[1] if boxes else label
        if found.setdefault(name, label) != label:
            msg = f"{where}, line {number}: {name!r} is {label!r} here and {found[name]!r} before"
            raise DataError(f"{msg}; give it one class")
    return found


def _stem(path: str) -> str:
    above, dot, extension = path.rpartition(".")
    return above if dot and "/" not in extension else path
