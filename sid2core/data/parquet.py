"""Parquet in the layout of Hugging Face: a column of encoded pictures, labels, captions."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from sid2core.data import classes, gathering, places
from sid2core.data.decoding import Decoded, Recipe
from sid2core.data.errors import DataError, Unusable
from sid2core.data.gathering import File
from sid2core.data.records import GROUPS_AT_HAND, Content, Entry

_IMAGES = ("image", "img", "jpg")
_CAPTIONS = ("caption", "text")
_LABEL = "label"
_EXTENSION = ".parquet"
_GROUP = 2**30
"""Bytes of a row group's pictures that are still read at once; 1 GiB."""
_SPLIT = re.compile(r"(train|validation|valid|val|test|dev)(?=[-_.])")


class Place(NamedTuple):
    """Where a row is."""

    path: str
    mark: str
    group: int
    row: int
    """Within the group."""


class Columns(NamedTuple):
    """What of a file is read, and the names that its labels count."""

    image: str
    caption: str | None
    labelled: bool
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Parquet(Decoded):
    """Rows of ``image`` (a struct with ``bytes``, or plain bytes), ``label`` and ``caption``.

    Labels are strings, or integers that count the class names in the schema. The key is the file's
    name and the row's number. A row group is read as a whole, and the last few are kept.
    """

    path: str
    recipe: Recipe
    parameter: str
    class_file: str | None = None
    fixed: bool = False
    grouped: bool = True

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else those in the schema; else the labels found, sorted."""
        if self.class_file is not None:
            return classes.read_names(self.class_file)
        if self._columns.names is not None:
            return self._columns.names
        groups = (group for file in self._files() for group in self._groups(file))
        return classes.ordered(raw for group in groups if isinstance(group, list) for raw in group)

    @functools.cached_property
    def captioned(self) -> bool:
        """Whether the first file has a column ``caption`` or ``text``."""
        return self._columns.caption is not None

    def index(self) -> list[Entry]:
        """Every row, file by file; a row group that cannot be read is one entry."""
        listed = self.class_file is not None or self._columns.names is not None
        labels = classes.Labels(self.class_names, listed=listed, labelled=self._columns.labelled)
        entries = list[Entry]()
        ordinal = 0
        for file in self._files(everything=True):
            if file.problem is not None:
                entries.append(Entry(file.name, -1, problem=file.problem))
                continue
            stem, mark, row = file.name.removesuffix(_EXTENSION), places.mark(file.path), 0
            for group, found in enumerate(self._groups(file)):
                if isinstance(found, str):
                    entries.append(Entry(f"{stem}/group {group}", -1, problem=found))
                    continue
                for within, raw in enumerate(found):
                    label, problem = labels.of(raw)
                    place = Place(file.path, mark, group, within)
                    key = f"{stem}/{row + within:07d}"
                    entries.append(Entry(key, label, place, ordinal, problem))
                row, ordinal = row + len(found), ordinal + 1
        cure = f"set {self.parameter} to others"
        return classes.settled(entries, self.class_names, self._where, "row of an image", cure)

    def stamp(self) -> str:
        """Of the files' names, sizes and times."""
        marks = [f"{file.name}\0{places.mark(file.path)}" for file in self._files(everything=True)]
        return places.digest([*marks, places.mark(self.class_file) if self.class_file else ""])

    def read(self, entry: Entry) -> Content:
        """One row's picture, and its caption."""
        place: Place = entry.place
        found = _group(place.path, place.mark, place.group)
        if isinstance(found, str):
            raise Unusable(found)
        images, captions = found
        if place.row >= len(images):
            msg = f"its row group is damaged: {len(images)} rows"
            raise Unusable(msg)
        value = images[place.row].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        if value is None:
            msg = "its row holds no bytes of a picture"
            raise Unusable(msg)
        content = self.recipe.image(io.BytesIO(value))
        return content if captions is None else replace(content, caption=_text(captions[place.row]))

    @property
    def _where(self) -> str:
        return f"{self.parameter} {self.path}"

    @functools.cached_property
    def _columns(self) -> Columns:
        """Those of the first file; others may differ in what they lack."""
        with _opened(self._files()[0].path) as file:
            return columns(file.schema_arrow, self._where)

    def _files(self, everything: bool = False) -> list[File]:
        """The Parquet files; with ``everything``, what else lies among them, too.

        Raises:
            DataError: there is none, or they are of several splits.
        """
        found = gathering.gathered(self.path, self.parameter, _EXTENSION)
        files = [file for file in found if file.problem is None]
        if not files:
            msg = f"{self._where} holds no Parquet file: set {self.parameter} to a folder of such"
            raise DataError(msg)
        splits = {_SPLIT.match(file.path.rpartition("/")[2]) for file in files}
        names = sorted({split[0] for split in splits if split})
        if len(names) > 1:
            msg = (
                f"{self._where} holds files of several splits ({', '.join(names)}): set data.path "
                f"to a pattern such as {names[0]}-*, and data.eval_path to that of the other"
            )
            raise DataError(msg)
        return found if everything else files

    def _groups(self, file: File) -> Iterator[list[classes.Raw] | str]:
        """Of each row group what is told of the rows' classes, or why it cannot be read."""
        limit = places.size(file.path)
        with _opened(file.path) as opened:
            found = columns(opened.schema_arrow, f"{self.parameter} {file.path}")
            named = found.names if self.class_file is not None else None
            for group in range(opened.num_row_groups):
                facts = opened.metadata.row_group(group)
                if facts.num_rows > limit:
                    yield f"damaged: {facts.num_rows} rows in a file of {limit} bytes"
                    continue
                if facts.total_byte_size > _GROUP:
                    msg = (
                        f"{file.path} has a row group of {facts.total_byte_size} bytes, which are "
                        f"read at once; expected at most {_GROUP}: write it anew with row groups "
                        "of some hundred images (row_group_size of pyarrow.parquet.write_table)"
                    )
                    raise DataError(msg)
                if not found.labelled:
                    yield [None] * facts.num_rows
                    continue
                yield _raw(opened, group, named)


def columns(schema: pa.Schema, where: str) -> Columns:
    """What a schema has of the columns that count.

    Raises:
        DataError: it has no pictures, or labels that are neither integers nor strings.
    """
    image = next((name for name in _IMAGES if name in schema.names), None)
    if image is None:
        msg = f"{where} has columns {', '.join(schema.names)}; expected one of {', '.join(_IMAGES)}"
        raise DataError(f"{msg}: rename that of the pictures")
    kind = schema.field(image).type
    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        kind = next((field.type for field in fields if field.name == "bytes"), pa.null())
    if not _is_binary(kind):
        msg = f"{where} has a column {image} of {schema.field(image).type}; expected files' bytes"
        raise DataError(f"{msg}, or a struct with a field bytes: write encoded pictures")
    labelled = _LABEL in schema.names
    if labelled and not _is_label(schema.field(_LABEL).type):
        msg = f"{where} has labels of {schema.field(_LABEL).type}; expected integers or strings"
        raise DataError(msg)
    captions = (name for name in _CAPTIONS if name in schema.names)
    caption = next((name for name in captions if _is_string(schema.field(name).type)), None)
    return Columns(image, caption, labelled, _names(schema) if labelled else None)


def _text(value: pa.Scalar) -> str | None:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        msg = f"its caption is not UTF-8: {error.reason}"
        raise Unusable(msg) from None


def _is_binary(kind: pa.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_label(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or _is_string(kind)


def _names(schema: pa.Schema) -> tuple[str, ...] | None:
    """The names of a ClassLabel, which Hugging Face keeps as JSON in the schema."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"][_LABEL]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    fit = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if fit and types.is_integer(schema.field(_LABEL).type) else None


def _raw(
    file: pq.ParquetFile, group: int, names: tuple[str, ...] | None
) -> list[classes.Raw] | str:
    """Labels as they are, or by the ``names`` that they count: those outside name nothing."""
    try:
        values = _table(file, group, [_LABEL])[_LABEL].to_pylist()
    except Exception as error:
        return f"its row group is {_damage(error)}"
    if names is None:
        return values
    return [
        value if value is None else names[value] if 0 <= value < len(names) else str(value)
        for value in values
    ]


@functools.lru_cache(maxsize=GROUPS_AT_HAND)
def _group(
    path: str, mark: str, group: int
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None] | str:
    """The pictures and captions of a row group, or why it cannot be read."""
    with _opened(path) as file:
        found = columns(file.schema_arrow, path)
        is_struct = types.is_struct(file.schema_arrow.field(found.image).type)
        wanted = [f"{found.image}.bytes" if is_struct else found.image]
        try:
            table = _table(file, group, [*wanted, *([found.caption] if found.caption else [])])
            return table[found.image], table[found.caption] if found.caption else None
        except Exception as error:
            return f"its row group is {_damage(error)}"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file.

    Raises:
        DataError: it is none, or cannot be read.
    """
    with places.opened(path) as file:
        try:
            found = pq.ParquetFile(file)
            found.schema_arrow  # noqa: B018 (it is made when asked for, and may fail, too)
        except Exception as error:
            reason = _damage(error)
            raise DataError(f"{path} is no Parquet file, or {reason}: fetch it anew") from error
        with found:
            yield found


def _table(file: pq.ParquetFile, group: int, names: list[str]) -> pa.Table:
    return file.read_row_group(group, columns=names, use_threads=False)


def _damage(error: Exception) -> str:
    """What pyarrow says of a file that it cannot read; the system's own errors go on."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    if isinstance(error, MemoryError) and not isinstance(error, pa.ArrowException):
        raise error
    return " ".join(f"damaged ({type(error).__name__}: {error})".split())
