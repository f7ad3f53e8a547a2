"""Chunk files: what was drawn or measured so far, so that a kill loses one chunk of images.

A chunk is an npz file. It is written atomically, with its checksum beside it
(:mod:`sid2core.checksums`), which is verified before work starts. Whenever it is read, the CRC-32
of each array is verified, and that no array is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core import atomic, checksums
from sid2core.errors import Sid2Error

Arrays = dict[str, NDArray]
_NAMES = "names"
"""The entry with the names of all other entries."""


class ChunkError(Sid2Error):
    """A chunk file is missing or damaged."""


def write(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Write ``arrays`` to ``path`` atomically; folders on the way are made."""
    atomic.write_npz(path, {**arrays, _NAMES: np.array(sorted(arrays))})
    checksums.seal(path)


def read(path: Path) -> Arrays:
    """All arrays of ``path``.

    Raises:
        ChunkError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
            if sorted(arrays.pop(_NAMES).tolist()) != sorted(arrays):
                msg = f"it holds {', '.join(arrays)} only"
                raise ValueError(msg)
            return arrays
    except MemoryError:
        raise
    except Exception as error:  # NumPy and zipfile raise many types for a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"{path} cannot be read ({reason}): run the same command again, which makes it anew"
        raise ChunkError(msg) from error


def intact(path: Path, indices: NDArray[np.integer]) -> bool:
    """Whether ``path`` is a complete chunk of the images ``indices``."""
    if not checksums.whole(path):
        return False
    try:
        found = read(path).get("indices")
    except ChunkError:
        return False
    return found is not None and np.array_equal(found, indices)
