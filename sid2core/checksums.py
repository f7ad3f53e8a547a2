"""Checksums of work files, so that damage is found before work goes on.

A power cut or a failing disk may leave a file truncated, filled with zeros or with changed bits.
Every writer of the work folder therefore seals what it has finished: the SHA-256 of a file is
written beside it as ``<name>.sha256``, those of the files of a folder into it as ``SHA256SUMS``
(``sha256sum -c`` reads both). What has no matching seal is made again, never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from sid2core import atomic

SUFFIX, SUMS = ".sha256", "SHA256SUMS"
_log = logging.getLogger(__name__)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(path: Path) -> None:
    """Write the checksums of a finished file or folder, once its bytes are on disk."""
    atomic.sync(path)
    atomic.write_text(_sums(path), _listing(path))


def whole(path: Path) -> bool:
    """Whether a file or folder has the bytes that were sealed; damage is reported.

    What has no seal was being written when a process was killed.

    Raises:
        OSError: it cannot be read for another reason than damage, such as missing permission.
    """
    sums = _sums(path)
    if not (path.exists() and sums.exists()):
        return False
    if sums.read_bytes() == _listing(path).encode():
        return True
    _log.warning("%s is damaged (its checksum does not match) and not used", path)
    return False


def write_json(path: Path, value: Any) -> None:
    """Write a sealed JSON file."""
    atomic.write_json(path, value)
    seal(path)


def read_json(path: Path) -> Any:
    """The value of a sealed JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if whole(path) else None
    except FileNotFoundError:  # another process has just removed it
        return None


def remove(path: Path) -> None:
    """Remove a file and its checksum."""
    path.unlink(missing_ok=True)
    _sums(path).unlink(missing_ok=True)


def _sums(path: Path) -> Path:
    return path / SUMS if path.is_dir() else path.with_name(path.name + SUFFIX)


def _listing(path: Path) -> str:
    """Lines of ``<SHA-256>  <name>``, sorted by name; names are relative to where they are kept."""
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != SUMS)
    base = _sums(path).parent
    return "".join(f"{sha256(one)}  {one.relative_to(base).as_posix()}\n" for one in files)
