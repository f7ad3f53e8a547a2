"""Atomic, durable writes: the one module that replaces files and folders.

A reader sees the earlier content or the whole new content, never a part. What a function here has
written is on disk when it returns, also after a power cut: the data, then the name in its folder,
are fsynced.

New content is written beside its target under a hidden name that ends in ``.tmp``. A killed
process leaves such a file behind; :func:`remove_unfinished` clears a folder of them.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

SUFFIX = ".tmp"
"""How the hidden names of unfinished files end."""


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Replace the content of a file."""
    with open_binary(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Replace a text file: UTF-8, with line feeds on every system."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file, indented for people to read.

    Raises:
        ValueError: ``value`` contains NaN or an infinity; write ``None`` instead.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: DataFrame, **options: Any) -> None:
    """Replace a CSV file by a data frame without its index; ``options`` are pandas's."""
    write_text(path, table.to_csv(index=False, lineterminator="\n", **options))


def write_npz(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Replace an npz file by named arrays; objects that would be pickled are refused."""
    import numpy as np  # parameters are read and checked without it

    save = np.savez_compressed if compressed else np.savez
    with open_binary(path) as file:
        save(file, allow_pickle=False, **arrays)


def write_npy(path: Path, array: Any) -> None:
    """Replace an npy file by an array; the bytes are those of ``np.save``.

    That function writes to files through C, where a full disk is an error without a number.
    """
    import numpy as np

    array = np.asarray(array, order="C")
    header = np.lib.format.header_data_from_array_1_0(array)
    with open_binary(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.reshape(-1).view(np.uint8).data)


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` when the body ends.

    If the body raises, the earlier file stays as it was. Folders on the way are made. The system's
    errors name ``path``.
    """
    with unfinished(path) as temporary:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno is not None and error.filename is None:
                error.filename = str(path)
            raise
        temporary.replace(path)
        _sync_folder(path.parent)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path``, where the body may write a file or a folder.

    What is still there when the body ends is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{SUFFIX}")
    try:
        yield temporary
    finally:
        _remove(temporary)


def put(made: Path, target: Path) -> None:
    """Give a finished file or folder the place of ``target``.

    Everything in ``made`` is fsynced first. An earlier folder is set aside as ``.<name>.before``
    and removed last, so a kill between the two steps loses neither.
    """
    sync(made)
    before = target.with_name(f".{target.name}.before")
    if target.is_dir():
        _remove(before)
        os.rename(target, before)
    os.replace(made, target)
    _sync_folder(target.parent)
    _remove(before)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left in ``folder``; no process may be writing there."""
    for path in folder.glob(f".*{SUFFIX}"):
        _remove(path)


def sync(path: Path) -> None:
    """Fsync a file, or all files and folders below a folder, the folder itself last."""
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            sync(entry)
        _sync_folder(path)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Fsync the names in a folder, where the system can open one (Windows cannot)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
