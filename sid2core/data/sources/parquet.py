"""Parquet in the layout of Hugging Face: a column of encoded pictures, labels, captions."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from sid2core import stand_ins
from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import classes, parquet_schema
from sid2core.data.sources.captions import near, texts
from sid2core.data.sources.fields import Asked, Fields
from sid2core.data.sources.many_files import ManyFiles
from sid2core.data.sources.parquet_schema import Columns, Labels
from sid2core.data.sources.protocol import GROUPS_AT_HAND, CaptionFiles, Content, Entry, beside
from sid2core.data.storage import paths
from sid2core.data.storage.globbing import File
from sid2core.errors import printable

_GROUP = 2**30
"""Bytes of a row group's pictures that are still read at once; 1 GiB."""
_LARGEST_REQUEST = 4 * _GROUP
"""Bytes that reading such a row group may ask for at once."""


class Place(NamedTuple):
    """Where a row is."""

    path: str
    mark: str
    group: int
    row: int
    """Within the group."""


class Group(NamedTuple):
    """The labels of a row group, or why it cannot be read."""

    raw: Sequence[classes.Raw]
    problem: str | None = None


@dataclass(frozen=True)
class Parquet(ManyFiles):
    """Rows of ``image`` (a struct with ``bytes``, or plain bytes), ``label`` and captions.

    Labels are strings, or integers that count the class names in the schema: either in all files,
    and by the same names, unless ``class_file`` settles what they mean. The key is the file's name
    and the row's number. A row group is read as a whole, and the last few are kept.
    """

    extension: ClassVar[str] = ".parquet"

    fixed: bool = False
    grouped: bool = True

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of ``class_file``; else those in the schema; else the labels found, sorted."""
        listed = self._listed_names() or self._schema_names
        if listed is not None:
            return listed
        groups = (group for file in self._parquet_files() for group in self._groups(file))
        return classes.ordered(raw for group in groups for raw in group.raw)

    @functools.cached_property
    def captioned(self) -> bool:
        """Whether the first file has a column of captions."""
        return bool(self._columns.captions)

    @property
    def caption_files(self) -> CaptionFiles:
        """A column that is probably one of captions, where none is read."""
        if self.captioned or not self.asked.captions:
            return CaptionFiles()
        return CaptionFiles(suggestions=(*near.of_columns(self._columns.ignored, self.path),))

    @property
    def fields(self) -> Fields:
        """The columns of the first file."""
        labels = self._columns.labels
        spare = self.class_file is None and self._schema_names is not None
        return Fields(labels and labels.column, self._columns.ignored, spare)

    def index(self) -> list[Entry]:
        """Every row, file by file; those of a row group that cannot be read say so."""
        listed = self.class_file is not None or self._schema_names is not None
        labelled = self._columns.labels is not None
        labels = classes.Labels(self.class_names, self.parameter, listed=listed, labelled=labelled)
        entries = list[Entry]()
        ordinal = 0
        for file in self._files():
            if file.problem is not None:
                entries.append(Entry(file.name, -1, problem=file.problem))
                continue
            stem, mark, row = file.name.removesuffix(self.extension), paths.mark(file.path), 0
            for number, group in enumerate(self._groups(file)):
                for within, raw in enumerate(group.raw):
                    label, problem = labels.of(raw)
                    place = Place(file.path, mark, number, within)
                    key = f"{stem}/{row + within:07d}"
                    entries.append(Entry(key, label, place, ordinal, group.problem or problem))
                row, ordinal = row + len(group.raw), ordinal + 1
        cure = f"set {self.parameter} to others"
        return classes.settled(entries, self.class_names, self._where, "row of an image", cure)

    def read(self, entry: Entry) -> Content:
        """One row's picture, and its captions."""
        place: Place = entry.place
        found = _group(place.path, place.mark, place.group, self.asked)
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
            msg = (
                "its row holds no bytes of a picture; if they lie in files of their own: write the "
            )
            raise Unusable(f"{msg}set with embed_external_files=True")
        content = self.recipe.image(io.BytesIO(value))
        described = tuple(text for column in captions for text in _texts(column[place.row]))
        return replace(content, captions=described) if described else content

    @functools.cached_property
    def _columns(self) -> Columns:
        """Those of the first file; others may differ in what they lack."""
        with _opened(self._parquet_files()[0].path) as file:
            return parquet_schema.columns(file.schema_arrow, self._where, self.asked)

    @property
    def _schema_names(self) -> tuple[str, ...] | None:
        labels = self._columns.labels
        return labels.names if labels else None

    def _parquet_files(self) -> list[File]:
        """The Parquet files.

        Raises:
            DataError: there is none, or they are of several splits.
        """
        found = self._files()
        files = [file for file in found if file.problem is None]
        if files:
            return files
        if any(file.path.endswith(".arrow") for file in found):
            msg = f"{self._where} holds Arrow files, as save_to_disk of Hugging Face writes them"
            raise DataError(f"{msg}; expected Parquet: load_from_disk(…).to_parquet(…) writes it")
        msg = f"{self._where} holds no Parquet file: set {self.parameter} to a folder of such"
        raise DataError(msg)

    def _groups(self, file: File) -> Iterator[Group]:
        """The labels of each row group; of no more rows than a file of its size can hold."""
        limit = paths.size(file.path)
        with _opened(file.path) as opened:
            where = f"{self.parameter} {file.path}"
            labels = parquet_schema.columns(opened.schema_arrow, where, self.asked).labels
            by_name = self.class_file is not None
            self._check_alike(file, labels)
            for group in range(opened.num_row_groups):
                metadata = opened.metadata.row_group(group)
                if metadata.num_rows > limit:
                    msg = f"{file.path} is damaged: it claims {metadata.num_rows} rows, and has "
                    raise DataError(f"{msg}{limit} bytes; fetch it anew, or leave it out")
                size = metadata.total_byte_size
                if size > _GROUP:
                    msg = (
                        f"{file.path} has a row group of {size} bytes, which are read at once; "
                        f"expected at most {_GROUP}: write it anew with row groups "
                        "of some hundred images (row_group_size of pyarrow.parquet.write_table)"
                    )
                    raise DataError(msg)
                if labels is None:
                    yield Group([None] * metadata.num_rows)
                else:
                    yield _labels_of(opened, file.path, group, labels, by_name=by_name)

    def _check_alike(self, file: File, labels: Labels | None) -> None:
        """Labels of all files must mean the same classes.

        Raises:
            DataError: those of this file and of the first one do not.
        """
        first = self._columns.labels
        if self.class_file is not None or labels is None or labels == first:
            return
        if first is None or labels[:2] != first[:2]:
            here, there = (
                "none" if one is None else f"{one.kind} in the column {one.column}"
                for one in (labels, first)
            )
            here = f"are {here}"
        else:
            pairs = itertools.zip_longest(labels.names or (), first.names or ())
            label, pair = next((n, p) for n, p in enumerate(pairs) if p[0] != p[1])
            here, there = f"have {pair[0]!r} as class {label}", repr(pair[1])
        msg = f"{self.parameter} {file.path}: its labels {here}, and those of "
        key = beside(self.parameter, "class_names")
        cure = f"write all files alike, or name the classes in {key}"
        raise DataError(f"{msg}{self._parquet_files()[0].path} {there}: {cure}")


def _texts(value: pa.Scalar) -> tuple[str, ...]:
    try:
        return texts.of_value(value.as_py()) or ()
    except UnicodeDecodeError as error:
        msg = f"its caption is not UTF-8: {error.reason}"
        raise Unusable(msg) from None


def _labels_of(
    file: pq.ParquetFile, path: str, group: int, labels: Labels, *, by_name: bool
) -> Group:
    """The labels of a row group as they are; ``by_name``, the class names that they count."""
    rows, problem = file.metadata.row_group(group).num_rows, None
    try:
        values = _values(_table(file, group, [labels.column])[labels.column])
    except Exception as error:
        problem = f"its row group is {_damage(error, path)}"
    else:
        if len(values) != rows:
            problem = f"its row group is damaged: {len(values)} labels of {rows} rows"
    if problem is not None:  # each row of the file's table is one image lost
        return Group([None] * rows, problem)
    values = [int(value) if isinstance(value, bool) else value for value in values]
    names = labels.names if by_name else None
    if names is None:
        return Group(values)
    return Group(
        [
            value if value is None else names[value] if 0 <= value < len(names) else str(value)
            for value in values
        ]
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as Python objects; equal ones of a dictionary are one object."""
    found = list[Any]()
    for chunk in column.chunks:
        if isinstance(chunk, pa.DictionaryArray):
            values = chunk.dictionary.to_pylist()
            places = chunk.indices.to_pylist()
            found += [None if place is None else values[place] for place in places]
        else:
            found += chunk.to_pylist()
    return found


@functools.lru_cache(maxsize=GROUPS_AT_HAND)
def _group(
    path: str, mark: str, group: int, asked: Asked
) -> tuple[pa.ChunkedArray, list[pa.ChunkedArray]] | str:
    """The pictures and captions of a row group, or why it cannot be read."""
    with _opened(path) as file:
        image, captions = parquet_schema.pictures(file.schema_arrow, path, asked)
        is_struct = types.is_struct(file.schema_arrow.field(image).type)
        names = [f"{image}.bytes" if is_struct else image, *captions]
        try:
            table = _table(file, group, names)
            return table[image], [table[name] for name in captions]
        except Exception as error:
            return f"its row group is {_damage(error, path)}"


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file; columns of bytes and strings stay dictionaries, however often rows repeat.

    Raises:
        DataError: it is none, or cannot be read.
    """
    with paths.opened(path) as file:
        try:
            metadata = pq.ParquetFile(file).metadata
            names = _columns_of_bytes(metadata)
            found = pq.ParquetFile(file, metadata=metadata, read_dictionary=names)
            found.schema_arrow  # noqa: B018 (it is made on access, which may fail)
        except Exception as error:
            reason = _damage(error, path)
            stand_ins.check(file, path, DataError)
            raise DataError(f"{path} is no Parquet file, or {reason}: fetch it anew") from error
        with found:
            yield found


def _columns_of_bytes(metadata: pq.FileMetaData) -> list[str]:
    columns = (metadata.schema.column(place) for place in range(metadata.num_columns))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _table(file: pq.ParquetFile, group: int, names: list[str]) -> pa.Table:
    return file.read_row_group(group, columns=names, use_threads=False)


def _damage(error: Exception, path: str) -> str:
    """The reason why pyarrow cannot read a file; errors of the system are raised again.

    A row group has at most ``_GROUP`` bytes. So memory that is lacking for a few of these is
    lacking, and a request for more comes from damaged sizes.

    Raises:
        DataError: there is not enough memory.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    if isinstance(error, MemoryError):
        size = re.search(r"size (\d+)", str(error))
        if size is None or int(size[1]) <= _LARGEST_REQUEST:
            msg = f"not enough memory to read {printable(path)} ({error}): lower runtime.workers, "
            raise DataError(f"{msg}or write the file anew with smaller row groups") from error
    return " ".join(f"damaged ({type(error).__name__}: {error})".split())
