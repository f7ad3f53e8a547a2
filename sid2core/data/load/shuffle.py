"""The order in which training sees records: as good as any, and read in whole row groups.

Records were mixed over the whole data set when ``prepare`` wrote them. So each row group is a fair
sample of it, and an epoch need not mix all with all again, which would read a row group for every
record. It mixes as follows, and each record comes once:

1. The row groups, shuffled, are distributed to :data:`LANES` lanes (at most as many as row groups).
2. A lane is a ring. Each of its row groups spreads its records at random over :data:`SPREAD` row
   groups' room from where it begins, so two are open at a time. In lanes of one or two row groups,
   which is all there is to a small data set, every record may come anywhere. Rings begin at
   different places, so lanes open their next row groups one after another, not all at once.
3. The lanes are merged evenly: of the n records of a lane, the j-th comes at (j + u) / n of the
   epoch, where u = (lane + ½) / lanes lets lanes take turns.

Epochs follow one another without a gap, and a batch is so many consecutive records, arranged by
lane. A process that takes its share of every batch from the same place thus meets the same lanes
again and again, and reads little more than its share of the row groups; which records make the
batch of a step is independent of the number of processes.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 32
"""Enough for a batch to be of many row groups, and for up to 32 processes to have lanes of their
own; few enough for the row groups that are open (``LANES`` × ``SPREAD``) to stay in memory."""
SPREAD = 2
"""The least that brings records of different row groups of a lane together; the memory that an
epoch needs for what is open is proportional to it."""


class Epoch(NamedTuple):
    """Records in the order of an epoch."""

    rows: NDArray[np.int64]
    """Which record comes when, [n]."""
    lanes: NDArray[np.uint8]
    """The lane of each, [n]."""


class Order:
    """The endless stream of records, a function of ``seed`` and the row groups' sizes.

    An epoch takes 9 bytes a record, 75 while it is made; the last two that were used are kept.
    """

    def __init__(self, sizes: NDArray[np.int64], seed: int):
        self._sizes, self._seed = sizes, seed
        self._records = int(sizes.sum())
        self.epoch = functools.lru_cache(maxsize=2)(self._epoch)

    @property
    def open(self) -> int:
        """How many row groups must stay in memory for each to be read about once.

        A quarter more than a batch is of on average: they close and open by and by.
        """
        return min(len(self._sizes), SPREAD * LANES * 5 // 4)

    def batch(self, step: int, batch_size: int) -> NDArray[np.int64]:
        """The records of the batch of ``step`` (from 0), by lane and then in stored order."""
        return self.with_epochs(step, batch_size)[0]

    def with_epochs(
        self, step: int, batch_size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same, and the epoch of each record."""
        start, stop = step * batch_size, (step + 1) * batch_size
        parts = []
        for number in range(start // self._records, (stop - 1) // self._records + 1):
            first = number * self._records
            taken = slice(max(start - first, 0), stop - first)
            order = self.epoch(number)
            here = order.rows[taken]
            parts.append((here, order.lanes[taken], np.full(len(here), number)))
        rows, lanes, epochs = (np.concatenate(column) for column in zip(*parts, strict=True))
        arranged = np.lexsort((rows, lanes))
        return rows[arranged], epochs[arranged]

    def _epoch(self, number: int) -> Epoch:
        sizes, groups = self._sizes, len(self._sizes)
        words = _words(self._seed, number, groups + self._records)
        lane, start, room = _distributed(sizes, words[:groups])
        lanes = len(room)
        spread = np.minimum(SPREAD * sizes.max(), room)[lane]
        ahead = start + sizes.max() * lane / lanes
        group = np.repeat(np.arange(groups), sizes)
        # Philox words are 64 random bits.
        place = ahead[group] + words[groups:] / 2.0**64 * spread[group]
        rows = np.lexsort((place % room[lane[group]], lane[group]))
        lane = lane[group[rows]]
        rank = np.arange(self._records) - (np.cumsum(room) - room)[lane]
        merged = np.argsort((rank + (lane + 0.5) / lanes) / room[lane], kind="stable")
        return Epoch(rows[merged], lane[merged].astype(np.uint8))


def part(size: int, index: int, count: int) -> slice:
    """The share of process ``index`` of ``count`` in a batch; shares differ by one at most."""
    return slice(index * size // count, (index + 1) * size // count)


def _distributed(
    sizes: NDArray[np.int64], words: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each row group's lane and where in it it begins, [groups]; each lane's records, [lanes]."""
    lanes = min(LANES, len(sizes))
    lane, start = np.empty_like(sizes), np.empty_like(sizes)
    room = np.empty(lanes, np.int64)
    shuffled = np.argsort(words, kind="stable")
    for number in range(lanes):
        mine = shuffled[number::lanes]
        ends = np.cumsum(sizes[mine])
        lane[mine], start[mine], room[number] = number, ends - sizes[mine], ends[-1]
    return lane, start, room


def _words(seed: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """Random words, of a generator that NumPy promises never to change (its shuffles it may)."""
    digest = hashlib.sha256(f"{seed}/loader/{epoch}".encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
