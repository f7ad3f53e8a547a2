"""Which files of an artifact were checked already, so that each is hashed once, not in each run.

A stamp says that a file had a SHA-256 when its path, size, times of modification and of change,
inode and device were such. It counts only while all of these are the same. No program can set the
time of change, so bytes that are changed in place are noticed even if the time of modification is
put back; a file that DVC checks out again has another inode.

Stamps lie in ``.sid2/verified``, one file each, written atomically: processes that check the same
file at once write the same stamp. A damaged or missing stamp means that the file is hashed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sid2core import atomic
from sid2core.checksums import sha256
from sid2core.pipeline import places

_SETTLED_NS = 100_000_000
"""A file that was changed so shortly before may change again without a new time of change."""
_ORIGIN = "folder.json"


def checked(path: Path, folder: Path, expected: str) -> str:
    """The SHA-256 of ``path``, hashed only if no stamp says that it is ``expected``.

    Args:
        path: the file.
        folder: the artifact that it is part of.
        expected: its SHA-256 as the manifest has it; another one is never remembered.

    Raises:
        OSError: the file cannot be read.
    """
    stamp = _place(folder) / f"{_short(path)}.json"
    before = _state(path)
    if _read(stamp) == before | {"sha256": expected}:
        return expected
    found = sha256(path)
    settled = time.time_ns() - max(before["mtime_ns"], before["ctime_ns"]) > _SETTLED_NS
    if found == expected and settled and _state(path) == before:
        # Where no stamp can be written, as in the project of another user, each run hashes again.
        with suppress(OSError):
            _write(stamp, folder, before | {"sha256": found})
    return found


def prune() -> None:
    """Remove the stamps of folders that are gone, such as those of temporary experiments."""
    for place in (places.work() / "verified").glob("*"):
        origin = _read(place / _ORIGIN)
        folder = origin.get("folder") if isinstance(origin, dict) else origin
        if folder is not None and not Path(str(folder)).is_dir():
            shutil.rmtree(place, ignore_errors=True)


def _write(stamp: Path, folder: Path, content: dict[str, Any]) -> None:
    origin = stamp.parent / _ORIGIN
    if not origin.exists():
        atomic.write_json(origin, {"folder": str(folder.absolute())})
    atomic.write_json(stamp, content)


def _state(path: Path) -> dict[str, Any]:
    """What changes when the content does; the path, too, since an inode may be used again."""
    found = os.stat(path)
    return {
        "path": str(path.absolute()),
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
        "device": found.st_dev,
    }


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _place(folder: Path) -> Path:
    return places.work() / "verified" / _short(folder)


def _short(path: Path) -> str:
    return hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:24]
