"""``metadata.jsonl`` and ``metadata.csv``: a row an image, by its ``file_name``."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources.captions import texts
from sid2core.data.sources.classes import normal
from sid2core.data.sources.fields import CAPTION_KEY, CAPTIONS_KEY, Asked
from sid2core.errors import few

NAMES = ("metadata.jsonl", "metadata.csv")
_FILES = ("file_name", "filename", "file", "path", "image_path", "image")
_DELIMITERS = ",\t;"
_LONGEST = 2**31 - 1
_EXAMPLE = '{"file_name": "1.png", "text": "a red cat"}'
_ESCAPES = (None, "\\")
"""Of a quotation mark within quotes: it is doubled, or it has a backslash."""


class Row(NamedTuple):
    """One image's captions; ``path`` is below the folder that the table's own path is below."""

    path: str
    captions: tuple[str, ...]


class Table(NamedTuple):
    """The captions in a file."""

    present: tuple[str, ...]
    """All columns."""
    columns: tuple[str, ...]
    """Those that hold captions; without any there are no rows."""
    rows: Sequence[Row]

    @property
    def unused(self) -> tuple[str, ...]:
        """The columns of neither captions nor paths."""
        return tuple(
            one for one in self.present if one not in self.columns and one.lower() not in _FILES
        )


def read(content: bytes, path: str, where: str, asked: Asked) -> Table:
    """The captions in a file.

    Args:
        content: its bytes.
        path: its own, below the root.
        where: what to call it in messages.
        asked: the columns that the parameters name.

    Raises:
        DataError: it is no such table, or no text.
    """
    try:
        text = texts.decoded(content)
    except Unusable as error:
        msg = f"{where} is {error}"
        raise DataError(msg) from None
    if path.endswith(".jsonl"):
        rows = list(_objects(text, where))
        present = tuple(dict.fromkeys(name for _, row in rows for name in row))
    else:
        rows, present = [], _header(text)
    columns = asked.caption_fields(present)
    if not columns:
        return Table(present, (), ())
    rows = rows or _cells(text, where)
    name = asked.image if asked.image in present else _files_column(present)
    if name is None:
        msg = f"{where} has columns {few(present)}; expected file_name, the image's path below the "
        raise DataError(f"{msg}table's folder: rename the column, or set {CAPTIONS_KEY} to none")
    above = posixpath.dirname(path)
    found = (_row(number, row, name, columns, where) for number, row in rows)
    return Table(present, columns, [row._replace(path=_below(above, row.path)) for row in found])


def _files_column(present: Sequence[str]) -> str | None:
    """The column of the images' paths by its usual names, also in capitals."""
    found = (one for name in _FILES for one in present if one.lower() == name)
    return next(found, None)


def _row(number: int, row: Mapping[str, Any], name: str, columns: Sequence[str], where: str) -> Row:
    here = f"{where}, line {number}"
    file = row.get(name)
    if not isinstance(file, str) or not file.strip():
        msg = f"{here}: found {name} {file!r:.80}; expected the path of an image, as in {_EXAMPLE}"
        raise DataError(msg)
    captions: list[str] = []
    for column in columns:
        try:
            value = texts.of_value(row.get(column))
        except Unusable as error:
            msg = f"{here}: {error}"
            raise DataError(msg) from None
        if value is None:
            found = type(row[column]).__name__
            msg = (
                f"{here}: {column} is {found}; expected a text or a list of texts: correct it, or "
            )
            raise DataError(f"{msg}name another column in {CAPTION_KEY}")
        captions += value
    return Row(file.strip(), tuple(captions))


def _below(above: str, name: str) -> str:
    path = posixpath.normpath(normal(name).replace("\\", "/"))
    return posixpath.join(above, path) if above else path


def _objects(text: str, where: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of JSON lines, each with its line number."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            what = getattr(error, "msg", error)
            msg = (
                f"{where}, line {number}: no JSON ({what}{at}); expected an object a line, such as "
            )
            raise DataError(f"{msg}{_EXAMPLE}") from None
        if not isinstance(found, dict):
            msg = f"{where}, line {number}: found {type(found).__name__}; expected an object a line"
            raise DataError(f"{msg}, such as {_EXAMPLE}")
        yield number, found


def _cells(text: str, where: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The rows of a CSV file by the names in its header, each with its line number.

    Quoted cells may hold delimiters, line ends and quotation marks; these are doubled, or have a
    backslash before them, whichever gives every row as many cells as the header.
    """
    delimiter, problems = _delimiter(text), []
    for escape in _ESCAPES:
        try:
            rows = list(_parsed(text, delimiter, escape))
        except csv.Error as error:
            problems.append(f"no CSV ({error})")
            continue
        header = _header(text)
        wrong = next((row for row in rows if len(row[1]) != len(header)), None)
        if wrong is None:
            return [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]
        problems.append(f"line {wrong[0]}: {len(wrong[1])} cells; the header has {len(header)}")
    msg = (
        f"{where}, {problems[0]}: enclose captions that contain {delimiter!r}, quotation marks or "
    )
    raise DataError(f"{msg}line ends in double quotes, and double the quotation marks in them")


def _delimiter(text: str) -> str:
    """The delimiter by which the first line names a column of files, else a comma."""
    header = text.lstrip().partition("\n")[0]
    for delimiter in _DELIMITERS:
        cells = header.replace('"', "").split(delimiter)
        if len(cells) > 1 and any(cell.strip().lower() in _FILES for cell in cells):
            return delimiter
    return ","


def _header(text: str) -> tuple[str, ...]:
    """The cells of the first line."""
    try:
        _, cells = next(_parsed(text, _delimiter(text), None), (0, []))
    except csv.Error:
        return ()
    return tuple(cell.strip() for cell in cells)


def _parsed(text: str, delimiter: str, escape: str | None) -> Iterator[tuple[int, list[str]]]:
    before = csv.field_size_limit(_LONGEST)  # the module's own limit is 128 KiB a cell
    try:
        rows = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            escapechar=escape,
            skipinitialspace=True,
            strict=True,
        )
        yield from ((rows.line_num, row) for row in rows if row)
    finally:
        csv.field_size_limit(before)
