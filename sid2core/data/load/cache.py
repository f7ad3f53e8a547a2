"""Row groups in memory, up to so many bytes: what was not used for longest goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class Cache:
    """What ``read`` gives by number, kept while there is room; may be used by several threads.

    It holds at most ``limit`` bytes or one item, whichever is more, also while it reads.

    Attributes:
        limit: how many bytes it may hold; grows by :meth:`reserve` alone.
        held: how many it holds.
        reads: how often it called ``read``.
    """

    def __init__(self, read: Callable[[int], NDArray], nbytes: NDArray[np.int64], limit: int):
        self._read, self._nbytes = read, nbytes
        self._items: OrderedDict[int, NDArray] = OrderedDict()
        self._lock = threading.Lock()
        self.limit, self.held, self.reads = limit, 0, 0

    def __getitem__(self, number: int) -> NDArray:
        """The item ``number``, from memory or read."""
        with self._lock:
            if number in self._items:
                self._items.move_to_end(number)
                return self._items[number]
            size = int(self._nbytes[number])
            while self._items and self.held + size > self.limit:
                gone, _ = self._items.popitem(last=False)
                self.held -= int(self._nbytes[gone])
            item = self._read(number)
            self.reads += 1
            self._items[number] = item
            self.held += size
            return item

    def reserve(self, numbers: NDArray[np.int64]) -> None:
        """Make room for all of ``numbers`` at once: items that are used together are read once."""
        needed = int(self._nbytes[numbers].sum())
        with self._lock:
            self.limit = max(self.limit, needed)
