"""The store of drawn images: chunks named by what produced them, kept beyond the stage's end.

A chunk is a function of the weights, of the method (network, schedule, sampler, guidance, steps),
of its random keys and conditions, of the feature extractors and of the program. Its place is a hash
of these, so a stage that runs again with one change draws only what the change affects.

The store is ``drawn`` in the work folder. Chunks of work that is not finished or not yet recorded
by DVC stay; of the others, those used least recently are removed when the store exceeds its limit.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sid2core import checksums
from sid2core.pipeline import code, places

GIB = 2**30
_FORMAT = 1
_USERS = "users"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Store:
    """Where the chunks of one run of a stage are, and how much may be kept beside them.

    Attributes:
        root: the folder of all chunks.
        user: the stage's work folder; while it exists, its chunks stay.
        program: the hash of the stage's program.
        limit: bytes.
    """

    root: Path
    user: Path
    program: str
    limit: int

    @classmethod
    def of(cls, stage: str, folder: Path, gib: float) -> Store:
        """The store for a stage whose work folder is ``folder``; ``gib`` is its limit."""
        program = code.running(stage).digest
        return cls(places.work() / "drawn", folder.absolute(), program, int(gib * GIB))

    def place(self, producer: Mapping[str, Any]) -> Path:
        """The folder of the chunks that ``producer`` describes."""
        return self.root / _short([_FORMAT, self.program, jax.devices()[0].device_kind, producer])

    def use(self, folders: Iterable[Path]) -> None:
        """Note that the chunks in ``folders`` are this run's; remove what exceeds the limit.

        ``SID2_FRESH=1`` in the environment discards what is in the folders.
        """
        own = sorted({folder.name for folder in folders})
        mark = self.root / _USERS / f"{_short(str(self.user))}.json"
        known = _read(mark)["folders"]
        for name in own:
            folder = self.root / name
            if os.environ.get("SID2_FRESH") == "1" and name not in known:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
        about = {"user": str(self.user), "folders": sorted({*own, *known})}
        checksums.write_json(mark, about)
        self._trim()

    def _trim(self) -> None:
        used: set[str] = set()
        for mark in (self.root / _USERS).glob("*.json"):
            about = _read(mark)
            if Path(about["user"]).is_dir():
                used.update(about["folders"])
            else:
                checksums.remove(mark)
        folders = [one for one in self.root.iterdir() if one.is_dir() and one.name != _USERS]
        sizes = {one: _size(one) for one in folders}
        excess = sum(sizes.values()) - self.limit
        for one in sorted(folders, key=lambda one: one.stat().st_mtime):
            if excess > 0 and one.name not in used:
                shutil.rmtree(one, ignore_errors=True)
                excess -= sizes[one]
                _log.info("%s is removed: the store exceeds runtime.drawn_gib", one)


def described(value: Any) -> Any:
    """A value as JSON: dataclasses by their type and fields, arrays by a hash of their content.

    Raises:
        TypeError: the value, or one in it, is of another kind.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return [type(value).__name__, str(value)] if isinstance(value, enum.Enum) else value
    if isinstance(value, np.ndarray | jax.Array | np.generic):
        return of_arrays({"": value})
    if isinstance(value, Mapping):
        return {str(key): described(inner) for key, inner in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        inner = {
            one.name: described(getattr(value, one.name)) for one in fields(value) if one.compare
        }
        return [f"{kind.__module__}.{kind.__qualname__}", inner]
    if isinstance(value, Sequence):
        return [described(inner) for inner in value]
    msg = f"{type(value).__name__} has no description"
    raise TypeError(msg)


def of_arrays(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of names, types, shapes and values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype} {np.shape(arrays[name])} ".encode())
        found.update(value.view(np.uint8).data if value.size else b"")
    return found.hexdigest()


def of_weights(params: Mapping[str, Any]) -> str:
    """The hash of a model's weights; those of the last few models are remembered."""
    return _of_weights(_Same(params))


class _Same:
    """A mapping that is equal to itself alone."""

    def __init__(self, value: Mapping[str, Any]):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@functools.lru_cache(maxsize=4)
def _of_weights(weights: _Same) -> str:
    return of_arrays(weights.value)


def _short(value: Any) -> str:
    """A short hash of a JSON value, for a file's name."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _read(mark: Path) -> Any:
    return checksums.read_json(mark) or {"user": "", "folders": []}
