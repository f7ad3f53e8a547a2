"""Parquet in the layout of Hugging Face: a column of encoded pictures, labels, captions."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from sid2core import config
from sid2core.config.data import Named
from sid2core.data.decode.decoding import Decoded, Recipe
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import classes
from sid2core.data.sources.protocol import GROUPS_AT_HAND, Content, Entry, beside, key_of
from sid2core.data.storage import globbing, paths
from sid2core.data.storage.globbing import File

_IMAGES = ("image", "img", "jpg")
_CAPTIONS = ("caption", "text")
_LABEL = "label"
_EXTENSION = ".parquet"
_GROUP = 2**30
"""Bytes of a row group's pictures that are still read at once; 1 GiB."""
_SPLITS = ("train", "validation", "valid", "val", "dev", "test")
"""As files are named by them, in the order in which to choose what to train on and to judge by."""
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)})(?=[-_.])")


class Place(NamedTuple):
    """Where a row is."""

    path: str
    mark: str
    group: int
    row: int
    """Within the group."""


class Group(NamedTuple):
    """What a row group tells of its rows' classes, or why it cannot be read."""

    raw: Sequence[classes.Raw]
    problem: str | None = None


class Columns(NamedTuple):
    """What of a file is read, and the names that its labels count."""

    image: str
    caption: str | None
    labels: str | None
    """What they are, if there are any: integers or strings."""
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Parquet(Decoded):
    """Rows of ``image`` (a struct with ``bytes``, or plain bytes), ``label`` and ``caption``.

    Labels are strings, or integers that count the class names in the schema: either in all files,
    and by the same names, unless ``class_file`` settles what they mean. The key is the file's name
    and the row's number. A row group is read as a whole, and the last few are kept.
    """

    path: str
    recipe: Recipe
    parameter: str
    class_file: str | None = None
    fixed: bool = False
    grouped: bool = True

    @classmethod
    def of(cls, settings: Named, *, data: config.Data, part: str) -> Parquet:
        """The source ``parquet``: the files at the parameter ``part``."""
        key, path = key_of(data.source.name, part), paths.plain(getattr(settings, part))
        return cls(path, Recipe.of(data), key, settings.class_names)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else those in the schema; else the labels found, sorted."""
        if self.class_file is not None:
            return classes.read_names(self.class_file, beside(self.parameter, "class_names"))
        if self._columns.names is not None:
            return self._columns.names
        groups = (group for file in self._files() for group in self._groups(file))
        return classes.ordered(raw for group in groups for raw in group.raw)

    @functools.cached_property
    def captioned(self) -> bool:
        """Whether the first file has a column ``caption`` or ``text``."""
        return self._columns.caption is not None

    def index(self) -> list[Entry]:
        """Every row, file by file; those of a row group that cannot be read say so."""
        listed = self.class_file is not None or self._columns.names is not None
        labelled = self._columns.labels is not None
        labels = classes.Labels(self.class_names, self.parameter, listed=listed, labelled=labelled)
        entries = list[Entry]()
        ordinal = 0
        for file in self._files(everything=True):
            if file.problem is not None:
                entries.append(Entry(file.name, -1, problem=file.problem))
                continue
            stem, mark, row = file.name.removesuffix(_EXTENSION), paths.mark(file.path), 0
            for group, told in enumerate(self._groups(file)):
                for within, raw in enumerate(told.raw):
                    label, problem = labels.of(raw)
                    place = Place(file.path, mark, group, within)
                    key = f"{stem}/{row + within:07d}"
                    entries.append(Entry(key, label, place, ordinal, told.problem or problem))
                row, ordinal = row + len(told.raw), ordinal + 1
        cure = f"set {self.parameter} to others"
        return classes.settled(entries, self.class_names, self._where, "row of an image", cure)

    def stamp(self) -> str:
        """Of the files' names, sizes and times."""
        marks = [f"{file.name}\0{paths.mark(file.path)}" for file in self._files(everything=True)]
        return paths.digest([*marks, paths.mark(self.class_file) if self.class_file else ""])

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
        found = globbing.gathered(self.path, self.parameter, _EXTENSION)
        files = [file for file in found if file.problem is None]
        if not files:
            msg = f"{self._where} holds no Parquet file: set {self.parameter} to a folder of such"
            raise DataError(msg)
        splits = {_SPLIT.match(file.path.rpartition("/")[2]) for file in files}
        names = sorted({split[1] for split in splits if split}, key=_SPLITS.index)
        if len(names) > 1:
            told = ", ".join(sorted(names))
            keys = [beside(self.parameter, part) for part in ("path", "eval_path")]
            msg = f"{self._where} holds files of several splits ({told}): set {keys[0]} to a "
            raise DataError(f"{msg}pattern such as {names[0]}-*, and {keys[1]} to {names[1]}-*")
        return found if everything else files

    def _groups(self, file: File) -> Iterator[Group]:
        """What each row group tells; of no more rows than a file of its size can hold."""
        limit = paths.size(file.path)
        with _opened(file.path) as opened:
            found = columns(opened.schema_arrow, f"{self.parameter} {file.path}")
            named = found.names if self.class_file is not None else None
            self._check_alike(file, found)
            for group in range(opened.num_row_groups):
                facts = opened.metadata.row_group(group)
                if facts.num_rows > limit:
                    msg = f"{file.path} is damaged: it tells of {facts.num_rows} rows, and has "
                    raise DataError(f"{msg}{limit} bytes; fetch it anew, or leave it out")
                if facts.total_byte_size > _GROUP:
                    msg = (
                        f"{file.path} has a row group of {facts.total_byte_size} bytes, which are "
                        f"read at once; expected at most {_GROUP}: write it anew with row groups "
                        "of some hundred images (row_group_size of pyarrow.parquet.write_table)"
                    )
                    raise DataError(msg)
                if found.labels is None:
                    yield Group([None] * facts.num_rows)
                else:
                    yield _told(opened, group, named)

    def _check_alike(self, file: File, found: Columns) -> None:
        """Labels of all files must mean the same classes.

        Raises:
            DataError: those of this file and of the first one do not.
        """
        first = self._columns
        if self.class_file is not None or found.labels is None or found[2:] == first[2:]:
            return
        if found.labels != first.labels:
            here, there = f"are {found.labels}", first.labels or "none"
        else:
            pairs = itertools.zip_longest(found.names or (), first.names or ())
            label, (here, there) = next((n, p) for n, p in enumerate(pairs) if p[0] != p[1])
            here, there = f"have {here!r} as class {label}", repr(there)
        msg = f"{self.parameter} {file.path}: its labels {here}, and those of "
        key = beside(self.parameter, "class_names")
        cure = f"write all files alike, or name the classes in {key}"
        raise DataError(f"{msg}{self._files()[0].path} {there}: {cure}")


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
    labels = _kind_of_labels(schema, where)
    captions = (name for name in _CAPTIONS if name in schema.names)
    caption = next((name for name in captions if _is_string(schema.field(name).type)), None)
    return Columns(image, caption, labels, _names(schema) if labels == "integers" else None)


def _kind_of_labels(schema: pa.Schema, where: str) -> str | None:
    if _LABEL not in schema.names:
        return None
    kind = schema.field(_LABEL).type
    if types.is_integer(kind):
        return "integers"
    if _is_string(kind):
        return "strings"
    msg = f"{where} has labels of {kind}; expected integers or strings"
    raise DataError(msg)


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


def _names(schema: pa.Schema) -> tuple[str, ...] | None:
    """The names of a ClassLabel, which Hugging Face keeps as JSON in the schema."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])
        names = told["info"]["features"][_LABEL]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    fit = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return tuple(names) if fit else None


def _told(file: pq.ParquetFile, group: int, names: tuple[str, ...] | None) -> Group:
    """Labels as they are, or by the ``names`` that they count: those outside name nothing."""
    rows, problem = file.metadata.row_group(group).num_rows, None
    try:
        values = _table(file, group, [_LABEL])[_LABEL].to_pylist()
    except Exception as error:
        problem = f"its row group is {_damage(error)}"
    else:
        if len(values) != rows:
            problem = f"its row group is damaged: {len(values)} labels of {rows} rows"
    if problem is not None:  # each of the rows that the file's table tells of is one image lost
        return Group([None] * rows, problem)
    if names is None:
        return Group(values)
    return Group(
        [
            value if value is None else names[value] if 0 <= value < len(names) else str(value)
            for value in values
        ]
    )


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
    with paths.opened(path) as file:
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
