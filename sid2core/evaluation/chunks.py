"""Chunk files: what was drawn or measured so far, so that a kill loses one chunk of images.

A chunk is an npz file. It is written atomically, and the checksums in it (CRC-32 of each array)
are verified whenever it is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.errors import Sid2Error

Arrays = dict[str, NDArray]


class ChunkError(Sid2Error):
    """A chunk file is missing or damaged."""


def write(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write ``arrays`` to ``path`` atomically; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read(path: Path) -> Arrays:
    """All arrays of ``path``.

    Raises:
        ChunkError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except MemoryError:
        raise
    except Exception as error:  # NumPy and zipfile raise many types for a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"{path} cannot be read ({reason}): run the same command again, which makes it anew"
        raise ChunkError(msg) from error


def intact(path: Path, indices: NDArray[np.integer]) -> bool:
    """Whether ``path`` is a complete chunk of the images ``indices``."""
    if not path.exists():
        return False
    try:
        found = read(path).get("indices")
    except ChunkError:
        return False
    return found is not None and np.array_equal(found, indices)
