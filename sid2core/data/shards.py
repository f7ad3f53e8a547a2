"""Parquet shards: one file of records, readable by anything that reads Parquet.

Columns: ``image``, the raw uint8 values as fixed-size binary; ``label``, int32; ``key``, string.
The schema's metadata holds a JSON object under ``sid2``: shape, channels, class names, split. The
bytes depend on the records and the pyarrow version alone. Images are stored as they are, since
raw pixels shrink little and inflating them costs a quarter of the reading speed; labels and keys
are zstd.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sid2core.data.records import Record

_METADATA = b"sid2"
_COMPRESSION = {"image": "none", "label": "zstd", "key": "zstd"}


@dataclass(frozen=True)
class Layout:
    """What every record of a split has in common, as the schema's metadata says it."""

    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    split: str
    captioned: bool = False

    def schema(self) -> pa.Schema:
        """The shard's Arrow schema, with this layout as its metadata."""
        value = {
            "shape": list(self.shape),
            "channels": self.shape[-1],
            "class_names": list(self.class_names),
            "split": self.split,
        }
        columns = [
            pa.field("image", pa.binary(math.prod(self.shape)), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
        ]
        if self.captioned:
            columns.append(pa.field("caption", pa.string()))
        return pa.schema(columns, {_METADATA: json.dumps(value).encode()})


def write(
    folder: Path,
    layout: Layout,
    records: Iterable[Record],
    *,
    shard_records: int,
    row_group_records: int,
) -> list[str]:
    """Write ``<split>-00000-of-00001.parquet`` and so on; returns the file names in order.

    Rows keep the order of ``records``. All shards hold ``shard_records`` rows and all row groups
    ``row_group_records``, but for the last of each.

    ``records`` may be a stream of any length. In memory are one row group's bytes
    (``row_group_records`` images) and the images that the stream itself holds, however many pass.
    """
    paths: list[Path] = []
    tables = _row_groups(layout, records, shard_records, row_group_records)
    for shard, numbered in itertools.groupby(tables, key=lambda item: item[0]):
        paths.append(folder / f"{layout.split}-{shard:05d}.part")
        with _writer(paths[-1], layout) as writer:
            for _, table in numbered:
                writer.write_table(table)
    if not paths:
        paths.append(folder / f"{layout.split}-00000.part")
        _writer(paths[0], layout).close()
    # The names say how many shards there are, which is known now.
    names = [
        f"{layout.split}-{index:05d}-of-{len(paths):05d}.parquet" for index in range(len(paths))
    ]
    for path, name in zip(paths, names, strict=True):
        path.rename(folder / name)
    return names


def _writer(path: Path, layout: Layout) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        layout.schema(),
        compression=_COMPRESSION,
        use_dictionary=False,
        write_statistics=["label"],
    )


def _row_groups(
    layout: Layout, records: Iterable[Record], shard_records: int, row_group_records: int
) -> Iterator[tuple[int, pa.Table]]:
    """Row groups, each with the number of its shard.

    A table is a view of one buffer, valid until the next is asked for.
    """
    width = math.prod(layout.shape)
    buffer = np.empty((min(row_group_records, shard_records), width), np.uint8)
    labels: list[int] = []
    keys: list[str] = []
    for row, record in enumerate(records):
        buffer[len(keys)] = record.image.reshape(width)
        labels.append(record.label)
        keys.append(record.key)
        if len(keys) == row_group_records or (row + 1) % shard_records == 0:
            yield row // shard_records, _table(layout, buffer, labels, keys)
            labels, keys = [], []
    if keys:
        yield row // shard_records, _table(layout, buffer, labels, keys)


def _table(
    layout: Layout, buffer: NDArray[np.uint8], labels: Sequence[int], keys: Sequence[str]
) -> pa.Table:
    schema = layout.schema()
    raw = [None, pa.py_buffer(buffer[: len(keys)])]
    images = pa.FixedSizeBinaryArray.from_buffers(schema.field("image").type, len(keys), raw)
    columns = [images, pa.array(labels, pa.int32()), pa.array(keys, pa.string())]
    return pa.Table.from_arrays(columns, schema=schema)
