"""Reading the shards that ``prepare`` wrote, a row group at a time.

Opening reads every shard's footer and all labels, 4 bytes a record, whose pages carry a checksum.
Images stay on disk until their row group is asked for; its pixels are then one array in Arrow's own
memory, not copied again. A whole shard is checked before any of its images is used.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from typing_extensions import Protocol, runtime_checkable

from sid2core.data.errors import DataError
from sid2core.data.load.shards import Layout

_CURE = "run `dvc repro --force prepare` to write it again"


@runtime_checkable
class RowGroups(Protocol):
    """Records of one layout that lie in row groups, numbered from 0 in stored order."""

    @property
    def layout(self) -> Layout:
        """What all records have in common."""
        ...

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Records in each row group."""
        ...

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class indices of all records."""
        ...

    def images(self, number: int) -> NDArray[np.uint8]:
        """The images of one row group, [records, *shape]; not to be written to."""
        ...

    def column(self, name: str) -> list[Any]:
        """Another column of all records, as Python values."""
        ...


@dataclass(frozen=True)
class _Shard:
    path: Path
    identity: tuple[int, int, int]
    """Of the file that was opened: data that are replaced under a run must not mix into it."""


class Shards:
    """The row groups of a split's shards; see :class:`RowGroups`.

    No file stays open between two calls, so there may be more shards than a process may have files.

    Attributes:
        layout: as given.
        sizes: records in each row group, over all shards in order.
        labels: class indices of all records, read-only.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        layout: Layout,
        check: Callable[[Path], object] = lambda path: None,
    ):
        """Check the layout of the shards and read their labels.

        Args:
            paths: the files, in stored order.
            layout: what all records have in common.
            check: raises an error where a file's content is not the expected one; called once for
                each file, when something other than its labels is first read.

        Raises:
            DataError: a file is no Parquet file, or its layout is not ``layout``.
        """
        self.layout = layout
        self._check, self._checked = check, set[Path]()
        self._places: list[tuple[_Shard, int]] = []
        sizes, labels = [], []
        for path in paths:
            with (
                _reading(path),
                pq.ParquetFile(path, page_checksum_verification=True) as file,
            ):
                _check_layout(path, file.schema_arrow, layout.schema())
                shard = _Shard(path, _identity(path))
                for group in range(file.num_row_groups):
                    self._places.append((shard, group))
                    sizes.append(file.metadata.row_group(group).num_rows)
                labels.append(file.read(columns=["label"]).column(0).to_numpy())
        self.sizes = np.array(sizes, np.int64)
        self.labels = np.concatenate([np.empty(0, np.int32), *labels])
        self.labels.setflags(write=False)

    def images(self, number: int) -> NDArray[np.uint8]:
        """The images of one row group, read from disk.

        Raises:
            DataError: the shard is damaged, gone or another one than was opened.
        """
        shard, group = self._places[number]
        self._check_once(shard.path)
        with _reading(shard.path):
            if _identity(shard.path) != shard.identity:
                msg = f"{shard.path} was replaced while it was in use; run the stage again"
                raise DataError(msg)
            with pq.ParquetFile(shard.path) as file:
                table = file.read_row_group(group, columns=["image"], use_threads=False)
            raw = _raw(table.combine_chunks().column(0).chunk(0))
        return raw.reshape(int(self.sizes[number]), *self.layout.shape)

    def column(self, name: str) -> list[Any]:
        """Another column of all records: ``key``; ``captions`` and ``attributes``, if any."""
        values: list[Any] = []
        for path in dict.fromkeys(shard.path for shard, _ in self._places):
            self._check_once(path)
            with _reading(path), pq.ParquetFile(path) as file:
                values += file.read(columns=[name]).column(0).to_pylist()
        return values

    def _check_once(self, path: Path) -> None:
        if path not in self._checked:
            self._check(path)
            self._checked.add(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell of any failure to read ``path`` with its name and the cure; memory alone is its own."""
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        msg = f"{path} is missing, damaged or no shard of this project ({error!r}); {_CURE}"
        raise DataError(msg) from error


def _identity(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _raw(column: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of fixed-size binaries as [rows, bytes], a read-only view of Arrow's own memory."""
    width = column.type.byte_width
    values = np.frombuffer(column.buffers()[1], np.uint8)
    values.setflags(write=False)
    return values[column.offset * width :][: len(column) * width].reshape(len(column), width)


def _check_layout(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    for key, text in expected.metadata.items():
        manifest, actual = json.loads(text), json.loads((found.metadata or {})[key])
        for name in ("shape", "class_names", "split"):
            if actual[name] != manifest[name]:
                msg = f"{path} has {name} {actual[name]!r}; its artifact says {manifest[name]!r}"
                raise DataError(f"{msg}; {_CURE}")
    if not found.equals(expected):
        msg = f"{path} has columns {found.remove_metadata()}; expected {expected.remove_metadata()}"
        raise DataError(f"{msg}; {_CURE}")


def nbytes(groups: RowGroups) -> NDArray[np.int64]:
    """Bytes of the images of each row group."""
    return groups.sizes * math.prod(groups.layout.shape)
