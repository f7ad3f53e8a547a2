"""NumPy's files without loading them: where the values of an array lie, to map them into memory.

An array that cannot be mapped where it lies, since it is compressed or behind an address, is copied
once to a temporary file (in ``TMPDIR``) that goes when the process ends. Nothing is unpickled.
"""

from __future__ import annotations

import atexit
import functools
import math
import os
import shutil
import tempfile
import zipfile
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sid2core import stand_ins
from sid2core.data.errors import DataError
from sid2core.data.storage import archives, paths

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Stored(NamedTuple):
    """Where the values of an array lie, in a file of this machine."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    mark: str
    """What its file was like: another one of the same name is another array."""


def located(path: str, names: tuple[str, ...] = ()) -> Stored | None:
    """The array of an ``.npy``, or the first of ``names`` in an ``.npz``; None where it has none.

    Raises:
        DataError: it is no such file, is damaged, holds Python objects, or there is no room for a
            copy.
    """
    return _located(path, names, paths.mark(path))


def names(path: str) -> tuple[str, ...]:
    """The names of the arrays in an ``.npz``; none of an ``.npy``.

    Raises:
        DataError: it cannot be read.
    """
    if not path.endswith(".npz"):
        return ()
    with paths.opened(path) as file, archives.zip_of(file, path) as archive:
        found = [info.filename for info in archive.filelist]
    return tuple(name.removesuffix(".npy") for name in found if name.endswith(".npy"))


@functools.lru_cache(maxsize=8)
def mapped(stored: Stored) -> NDArray[Any]:
    """The array, of which only what is read comes into memory."""
    if not math.prod(stored.shape):
        return np.empty(stored.shape, stored.dtype)
    order: Literal["C", "F"] = "F" if stored.fortran else "C"
    return np.memmap(stored.path, stored.dtype, "r", stored.offset, stored.shape, order)


@functools.lru_cache(maxsize=8)
def _located(path: str, names: tuple[str, ...], mark: str) -> Stored | None:
    with paths.opened(path) as file:
        if not path.endswith(".npz"):
            return _plain(file, path, mark)
        with archives.zip_of(file, path) as archive:
            found = {info.filename: info for info in archive.filelist}
            info = next((found[f"{name}.npy"] for name in names if f"{name}.npy" in found), None)
            return None if info is None else _member(file, archive, info, path, mark)


def _plain(file: BinaryIO, path: str, mark: str) -> Stored:
    size = file.seek(0, os.SEEK_END)
    stand_ins.check(file, path, DataError)
    file.seek(0)
    if paths.is_address(path):
        return _copied(file, size, path)
    return _read(file, size, path, path, mark)


def _member(
    file: BinaryIO, archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, mark: str
) -> Stored:
    where = f"{path}, {info.filename}"
    if info.flag_bits & 1:
        msg = f"{where} is encrypted; save it without a password"
        raise DataError(msg)
    if info.compress_type == zipfile.ZIP_STORED and not paths.is_address(path):
        file.seek(archives.begin(file, info.header_offset, where))
        return _read(file, file.tell() + info.file_size, where, path, mark)
    try:
        with archive.open(info) as member:
            return _copied(member, info.file_size, where)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # what zipfile and its unpackers raise of damage
        raise _damaged(where, error) from error


def _read(file: BinaryIO, end: int, where: str, path: str, mark: str) -> Stored:
    """The array whose header comes next in ``file``, and whose values end by ``end``."""
    try:
        header = _HEADERS[np.lib.format.read_magic(file)]
        shape, fortran, dtype = header(file)
    except MemoryError:
        raise
    except Exception as error:  # a header is Python's own syntax, so any error of it may come
        raise _damaged(where, error) from error
    if dtype.hasobject:
        msg = (
            f"{where} holds Python objects, which are never unpickled; save plain numbers or names"
        )
        raise DataError(msg)
    needed, found = math.prod(shape) * dtype.itemsize, end - file.tell()
    if needed > found or min(shape, default=0) < 0:
        msg = f"{where} has {found} of the {needed} bytes that its shape {list(shape)} needs"
        raise DataError(f"{msg}: it is cut off; fetch or save it anew")
    return Stored(path, file.tell(), shape, dtype, fortran, mark)


def _copied(source: BinaryIO | Any, size: int, where: str) -> Stored:
    """The array that ``source`` streams, of ``size`` bytes in all, from a copy of it."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    room = f"{where} needs {size} bytes in {folder} for an unpacked copy"
    if size > free:
        msg = f"{room}, which has {free}: make room, or set TMPDIR to another folder"
        raise DataError(msg)
    handle, path = tempfile.mkstemp(prefix="sid2-", suffix=".npy", dir=folder)
    atexit.register(_remove, path, os.getpid())
    with open(handle, "w+b") as copy:
        while block := source.read(min(2**20, size - copy.tell())):
            try:
                copy.write(block)
                copy.flush()
            except OSError as error:
                msg = f"{room}: {error.strerror}; make room, or set TMPDIR to another folder"
                raise DataError(msg) from error
        end = copy.tell()
        copy.seek(0)
        return _read(copy, end, where, path, "")


def _remove(path: str, owner: int) -> None:
    """Remove a temporary file, once; processes that were forked meanwhile still read it."""
    if os.getpid() == owner and os.path.exists(path):
        os.remove(path)


def _damaged(where: str, error: Exception) -> DataError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return DataError(f"{where} is no NumPy array, or a damaged one ({reason}): save it anew")
