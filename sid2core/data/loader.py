"""Batches as a function of (seed, step).

Any step can be asked for at once, so a resumed run needs no state of its data.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sid2core.data.dataset import Dataset


class Batch(NamedTuple):
    """Raw images [b, h, w, c], or clips [b, f, h, w, c], and class indices [b]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Loader:
    """Endless shuffled batches of ``dataset``.

    Epochs follow one another without a gap: each shows every image once, in an order of its own,
    and a batch may hold the end of one and the start of the next.
    """

    dataset: Dataset
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        """The batch of ``step`` (from 0)."""
        chosen = self.indices(step)
        return Batch(self.dataset.images[chosen], self.dataset.labels[chosen])

    def indices(self, step: int) -> NDArray[np.int64]:
        """Which images make the batch of ``step``: a process of many may take its part of them."""
        size = len(self.dataset)
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        for epoch in range(start // size, (stop - 1) // size + 1):
            first = epoch * size
            order = _order(self.seed, epoch, size)
            parts.append(order[max(start - first, 0) : min(stop - first, size)])
        return np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """A permutation of ``size`` indices.

    It sorts the raw words of a counter-based generator: unlike a library's own shuffle, NumPy
    promises never to change these.
    """
    digest = hashlib.sha256(f"{seed}/loader/{epoch}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(size)
    order = np.argsort(words, kind="stable")
    order.setflags(write=False)
    return order
