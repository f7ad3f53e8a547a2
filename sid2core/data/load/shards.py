"""Parquet shards: one file of records, readable by anything that reads Parquet.

Columns: ``image``, the raw uint8 values as fixed-size binary; ``label``, int32; ``key``, string;
``captions``, a list of strings, where the source has captions; ``attributes``, a list of strings in
the order of the layout's attributes, where it has any. The schema's metadata holds a JSON object
under ``sid2``: shape, channels, class names, split, and the names of attributes if there are any.
The bytes depend on the records and the pyarrow version alone. Images are stored as they are, since
raw pixels shrink little and inflating them costs a quarter of the reading speed; the rest is zstd.

Records come mixed over the whole data set, so that a row group is a fair sample of it: a reader
that shuffles row groups, and records among a few of them, sees an order as good as any, and reads
from disk in runs of a row group, which is what disks and object stores are quick at.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sid2core import atomic
from sid2core.data.sources.protocol import Record

_METADATA = b"sid2"
_LISTS = ("captions", "attributes")
_COMPRESSION = {"image": "none", "label": "zstd", "key": "zstd"} | {
    f"{name}.list.element": "zstd" for name in _LISTS
}
_Row = tuple[Any, ...]
"""Values of all columns but the image."""


@dataclass(frozen=True)
class Layout:
    """What every record of a split has in common, as the schema's metadata says it."""

    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    split: str
    captioned: bool = False
    attributes: tuple[str, ...] = ()
    """Their names, sorted."""

    def schema(self) -> pa.Schema:
        """The shard's Arrow schema, with this layout as its metadata."""
        value = {
            "shape": list(self.shape),
            "channels": self.shape[-1],
            "class_names": list(self.class_names),
            "split": self.split,
        }
        if self.attributes:
            value["attributes"] = list(self.attributes)
        columns = [
            pa.field("image", pa.binary(math.prod(self.shape)), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
        ]
        for name, there in zip(_LISTS, (self.captioned, self.attributes), strict=True):
            if there:
                columns.append(pa.field(name, pa.list_(pa.string()), nullable=False))
        return pa.schema(columns, {_METADATA: json.dumps(value).encode()})


def write(path: Path, layout: Layout, records: Iterable[Record], row_group_records: int) -> None:
    """Write one shard, whole or not at all: under a name of its own first, then renamed.

    Rows keep the order of ``records``; row groups hold ``row_group_records`` rows but for the
    last. In memory are one row group's bytes and the images that the stream itself holds, however
    many pass.
    """
    with (
        atomic.open_binary(path) as file,
        pq.ParquetWriter(
            file,
            layout.schema(),
            compression=_COMPRESSION,
            use_dictionary=False,
            write_statistics=["label"],
            write_page_checksum=True,
        ) as writer,
    ):
        for table in _row_groups(layout, records, row_group_records):
            writer.write_table(table)


def _row_groups(
    layout: Layout, records: Iterable[Record], row_group_records: int
) -> Iterator[pa.Table]:
    """Row groups; a table is a view of one buffer, valid until the next is asked for."""
    stream = iter(records)
    buffer = np.empty((row_group_records, math.prod(layout.shape)), np.uint8)
    while True:
        rows: list[_Row] = []
        for record in itertools.islice(stream, row_group_records):
            buffer[len(rows)] = record.image.reshape(-1)
            rows.append(_row(layout, record))
        if not rows:
            return
        yield _table(layout.schema(), buffer[: len(rows)], rows)


def _row(layout: Layout, record: Record) -> _Row:
    captions = (record.captions,) if layout.captioned else ()
    names = layout.attributes
    attributes = ([record.attributes[name] for name in names],) if names else ()
    return record.label, record.key, *captions, *attributes


def _table(schema: pa.Schema, images: NDArray[np.uint8], rows: Sequence[_Row]) -> pa.Table:
    raw = [None, pa.py_buffer(images)]
    columns = [pa.FixedSizeBinaryArray.from_buffers(schema.field("image").type, len(rows), raw)]
    for field, values in zip(list(schema)[1:], zip(*rows, strict=True), strict=True):
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)
