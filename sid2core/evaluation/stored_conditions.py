"""Conditions of many samples that stay on disk until some of them are drawn.

The vectors of a large text encoder, and given frames, take a megabyte a sample and more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Rows:
    """One array [count, …] of the conditions; ``array[rows]`` reads these rows."""

    read: Callable[[bytes], list[Any]]
    place: int
    count: int

    def __getitem__(self, rows: Any) -> Any:
        """The rows of a slice or of an array of indices."""
        indices = np.arange(self.count, dtype=np.int64)[rows]
        return self.read(indices.tobytes())[self.place]


def of_records(kinds: ConditionSpec, data: Dataset, count: int, seed: int) -> Condition:
    """The conditions of :func:`sid2core.conditioning.captioned`, each array a :class:`Rows`.

    :func:`sid2core.conditioning.taken` makes conditions on the host of them.
    """
    rows, words = conditioning.captioned(count, len(data), seed)
    return _lazy(lambda some: kinds.of_rows(data, rows[some], words[some]), count)


def of_texts(
    conditions_of: Callable[[Sequence[str]], Condition], texts: Sequence[str]
) -> Condition:
    """The conditions of texts, each array a :class:`Rows`: a text is encoded when it is drawn."""
    return _lazy(lambda some: conditions_of([texts[i] for i in some.tolist()]), len(texts))


def _lazy(made: Callable[[NDArray[np.int64]], Condition], count: int) -> Condition:
    @functools.lru_cache(maxsize=1)
    def read(indices: bytes) -> list[Any]:
        return jax.tree.leaves(made(np.frombuffer(indices, np.int64)))

    leaves, structure = jax.tree.flatten(made(np.zeros(1, np.int64)))
    return jax.tree.unflatten(structure, [Rows(read, i, count) for i in range(len(leaves))])
