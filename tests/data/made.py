"""Sources and shards for tests, made on the spot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sid2core.data.errors import Unusable
from sid2core.data.load import shards
from sid2core.data.sources.protocol import Content, Entry, Record


@dataclass(frozen=True)
class Plain:
    """A source of plain images: row r of the index is an image of level r mod 256, label r mod 2.

    Rows in ``broken`` cannot be read; a row that names ``deadly`` kills its process, once.
    """

    size: int
    shape: tuple[int, ...] = (4, 4, 1)
    broken: frozenset[int] = frozenset()
    reason: str = "broken"
    class_names: tuple[str, ...] = ("a", "b")
    captioned: bool = False
    fixed: bool = False
    grouped: bool = False

    @property
    def metadata(self):
        return {}

    def stamp(self):
        return f"plain {self.size}"

    def index(self):
        return [Entry(f"{row:05d}", row % 2, row, row // 10) for row in range(self.size)]

    def read(self, entry):
        if entry.place in self.broken:
            raise Unusable(self.reason)
        image = np.full(self.shape, entry.place % 256, np.uint8)
        captions = (f"level {entry.place}",) * (entry.place % 3) if self.captioned else ()
        return Content(image, (self.shape[-2], self.shape[-3]), captions)


def record(key: str, image, label: int) -> Record:
    """A record made from a picture of the image's own size."""
    return Record(key, image, label, (image.shape[-2], image.shape[-3]))


def write(
    folder: Path,
    layout: shards.Layout,
    records: Sequence[Record],
    *,
    shard_records: int,
    row_group_records: int,
) -> list[str]:
    """Write shards of ``shard_records``, named as ``prepare`` does; returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        records[start : start + shard_records] for start in range(0, len(records), shard_records)
    ] or [[]]
    names = []
    for number, part in enumerate(parts):
        names.append(f"{layout.split}-{number:05d}-of-{len(parts):05d}.parquet")
        shards.write(folder / names[-1], layout, part, row_group_records)
    return names
