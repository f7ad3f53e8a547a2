"""From captions to stored tokens: distinct captions in chunks, and which captions each row has.

Caption number 0 is the empty one; the others follow in the order in which the rows of the splits
have them. A chunk is the tokens of :data:`CHUNK` captions, without padding: ``values-<number>.npy``
(ids, or vectors in half precision) and ``starts-<number>.npy``, where each caption begins. Vectors
are bfloat16, stored as uint16, because npy has no name for that type.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sid2core import atomic, checksums, config
from sid2core.text import folder as encoders
from sid2core.text import prompts
from sid2core.text.frozen import Embed
from sid2core.text.protocol import TextEncoder

CHUNK = 1024
"""Captions of a chunk: what a kill may lose."""
CAPTIONS = "captions.arrow"


@dataclass(frozen=True, eq=False)
class Captions:
    """The distinct captions of a data set, and those of each row.

    Attributes:
        distinct: each caption once; the first is empty.
        rows: by split, ``first`` [n + 1] and ``caption`` [m]: row i has the captions of numbers
            ``caption[first[i]:first[i + 1]]``.
    """

    distinct: Sequence[str]
    rows: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int32]]]

    @classmethod
    def collected(cls, splits: Mapping[str, Iterable[Sequence[str]]]) -> Captions:
        """Of the captions of each row, by split."""
        numbers, rows = {"": 0}, {}
        for split, lists in splits.items():
            counts, caption = [0], list[int]()
            for captions in lists:
                caption += [numbers.setdefault(one, len(numbers)) for one in captions]
                counts.append(len(captions))
            rows[split] = np.cumsum(counts, dtype=np.int64), np.array(caption, np.int32)
        return cls([*numbers], rows)

    def of(self, split: str) -> Iterator[str]:
        """All captions of a split in stored order, duplicates included."""
        return (self.distinct[number] for number in self.rows[split][1].tolist())

    @property
    def chunks(self) -> int:
        """How many chunks they make."""
        return -(-len(self.distinct) // CHUNK)

    def chunk(self, number: int) -> Sequence[str]:
        """The captions of a chunk."""
        return self.distinct[number * CHUNK : (number + 1) * CHUNK]

    def write(self, target: Path) -> None:
        """Write the captions and, for each split, ``<split>.first.npy`` and its companion."""
        with atomic.open_binary(target / CAPTIONS) as file:
            schema = pa.schema([pa.field("caption", pa.large_string(), nullable=False)])
            with pa.ipc.new_file(file, schema) as writer:
                for number in range(self.chunks):
                    part = pa.array(self.chunk(number), pa.large_string())
                    writer.write_batch(pa.record_batch([part], schema=schema))
        for split, (first, caption) in self.rows.items():
            atomic.write_npy(target / f"{split}.first.npy", first)
            atomic.write_npy(target / f"{split}.caption.npy", caption)


def fitted(settings: config.Text, captions: Iterable[str], work: Path) -> TextEncoder:
    """The encoder of ``settings``, fitted to captions; that of an earlier run if it is whole."""
    place = work / prompts.ENCODER
    if not checksums.whole(place):
        shutil.rmtree(place, ignore_errors=True)
        encoders.fit(settings, captions, place)
        checksums.seal(place)
    return encoders.load(place)


def write_chunk(
    work: Path, number: int, captions: Sequence[str], encoder: TextEncoder, embed: Embed | None
) -> None:
    """Write the tokens of a chunk, unless an earlier run did; ``embed`` makes vectors of them."""
    values, starts = (work / name for name in names(number))
    if checksums.whole(values) and checksums.whole(starts):
        return
    found = encoder.tokenize(captions)
    flat: NDArray[Any] = found.ids[found.mask]
    if embed is not None:
        flat = np.concatenate(embed.rows(found.ids, found.mask)).view(np.uint16)
    for path, array in (
        (values, flat),
        (starts, np.concatenate([[0], np.cumsum(found.lengths, dtype=np.int64)])),
    ):
        atomic.write_npy(path, array)
        checksums.seal(path)


def full(captions: Captions, work: Path, encoder: TextEncoder) -> int:
    """How many distinct captions fill ``text.max_tokens``: what is longer is cut."""
    starts = (np.load(work / names(number)[1]) for number in range(captions.chunks))
    return sum(int((np.diff(one) == encoder.max_tokens).sum()) for one in starts)


def place(captions: Captions, work: Path, target: Path) -> None:
    """Put the encoder and all chunks of the work folder into the artifact's folder ``target``."""
    files = [one for number in range(captions.chunks) for one in names(number)]
    encoder = [
        one.relative_to(work).as_posix()
        for one in sorted((work / prompts.ENCODER).rglob("*"))
        if one.is_file() and one.name != checksums.SUMS
    ]
    for name in [*encoder, *files]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(work / name, target / name)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(work / name, target / name)
    captions.write(target)


def metadata(captions: Captions, encoder: TextEncoder, embed: Embed | None) -> dict[str, Any]:
    """What the manifest says of the tokens."""
    empty = prompts.text_of(encoder, embed or _embed(encoder), [""])
    kind = prompts.kind_of(encoder, np.asarray(empty.tokens[0][empty.mask[0]]))
    return {
        "kind": kind.to_json(),
        "stored": "int32" if embed is None else kind.dtype,
        "chunk": CHUNK,
        "distinct": len(captions.distinct),
        "captions": {split: len(caption) for split, (_, caption) in captions.rows.items()},
        "provenance": dict(encoder.provenance),
    }


def _embed(encoder: TextEncoder) -> Embed | None:
    return Embed(encoder) if encoder.frozen else None


def names(number: int) -> tuple[str, str]:
    """The files of a chunk."""
    return f"chunks/values-{number:08d}.npy", f"chunks/starts-{number:08d}.npy"
