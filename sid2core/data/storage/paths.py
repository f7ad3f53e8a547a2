"""Where files lie: local paths, and addresses that fsspec knows (s3://, gs://, https://), alike.

Nothing stays open between calls, so sources travel to other processes, and no process reads an old
file under new offsets.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec import AbstractFileSystem

from sid2core.data.errors import DataError, Unusable

LIMIT = 2**29
"""Bytes of a picture's file that is read whole, out of an archive or from an address; 512 MiB."""

_THE_FILES_OWN = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO),
}
_TIMES = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


def plain(path: str) -> str:
    """``path`` without the ``file://`` that an address of this machine may begin with."""
    return path.removeprefix("file://")


def same(one: str, other: str) -> bool:
    """Whether two paths or addresses name the same file, as far as their text shows."""
    return one == other or os.path.abspath(one) == os.path.abspath(other)


def is_address(path: str) -> bool:
    """Whether ``path`` is for fsspec to open."""
    return "://" in path


def join(root: str, path: str) -> str:
    """``path`` below ``root``, which may be an address; either may be empty."""
    return f"{root}{'' if root.endswith('/') else '/'}{path}" if root and path else root or path


def system(path: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and what it calls the address.

    Asked for again at each use: fsspec keeps one for each process, and a forked one needs its own.

    Raises:
        DataError: its protocol is not known, or needs a package that is not there.
    """
    try:
        return fsspec.url_to_fs(path)
    except (ImportError, ValueError) as error:
        msg = (
            f"{path} cannot be opened: {error}; correct the address, or install what its protocol "
            "needs (s3://: pip install s3fs; gs://: pip install gcsfs; https://: aiohttp)"
        )
        raise DataError(msg) from error


def failed(path: str, error: Exception) -> DataError:
    """What to raise where the disk or the network, not a picture, is at fault."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    reason = " ".join(reason.split()) or type(error).__name__
    cure = "network and credentials are" if is_address(path) else "disk is"
    return DataError(f"reading {path} failed: {reason}; see that its {cure} well, then run again")


@contextlib.contextmanager
def faults(path: str) -> Iterator[None]:
    """Around the reading of one picture's file: separates its own faults from those of the disk.

    Raises:
        Unusable: the file is not there or may not be read.
        DataError: reading failed for a reason that is not this file's own.
    """
    try:
        yield
    except OSError as error:
        own = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}
        number = error.errno or own.get(type(error))
        if number in _THE_FILES_OWN:
            raise Unusable(os.strerror(number)) from None
        raise failed(path, error) from error


@contextlib.contextmanager
def trouble(path: str) -> Iterator[None]:
    """Around the reading of a file that many images need: any failure stops the stage.

    Clients of remote stores raise what they like; of local files only the system's errors count.
    """
    try:
        yield
    except (DataError, Unusable, MemoryError):
        raise
    except Exception as error:
        if is_address(path) or isinstance(error, OSError):
            raise failed(path, error) from error
        raise


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file at ``path``, to be read from any position.

    Raises:
        DataError: it cannot be opened or read, or its server gives no parts of files.
    """
    with trouble(path), _open(path) as file:
        if not file.seekable():
            raise _no_parts(path)
        yield file


def check_parts(file: BinaryIO, path: str) -> None:
    """Refuse an empty file, and one that cannot be read from its end.

    Raises:
        DataError: it is such a file.
    """
    try:
        if not file.seek(0, os.SEEK_END):
            msg = f"{path} is empty: fetch or make it anew"
            raise DataError(msg)
        file.seek(-1, os.SEEK_END)
        file.read(1)
    except ValueError as error:  # fsspec's, of a server without ranges
        raise _no_parts(path) from error


def _open(path: str) -> BinaryIO:
    if not is_address(path):
        return Path(path).open("rb")
    files, name = system(path)
    return files.open(name, "rb")


def _no_parts(path: str) -> DataError:
    msg = f"{path}: its server gives files as a whole only; download it and set its path"
    return DataError(msg)


def part(path: str, start: int, size: int) -> bytes:
    """``size`` bytes from ``start`` on; fewer where the file ends before.

    Raises:
        DataError: it cannot be read.
    """
    if size <= 0:
        return b""
    with trouble(path):
        if not is_address(path):
            with Path(path).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), size, start)
        files, name = system(path)
        content = files.cat_file(name, start=start, end=start + size)
    if len(content) > size:
        raise _no_parts(path)
    return content


def whole(path: str, size: int | None) -> bytes:
    """All of a picture's file at an address, of ``size`` bytes where that is known.

    Raises:
        Unusable: it is not there, may not be read, or is larger than :data:`LIMIT`.
        DataError: it cannot be read for another reason.
    """
    check_size(size or 0)
    files, name = system(path)
    with trouble(path), faults(path):
        if size is not None:
            return files.cat_file(name)
        with files.open(name, "rb") as file:
            content = file.read(LIMIT + 1)
    check_size(len(content))
    return content


def check_size(size: int) -> None:
    """Refuse what is larger than :data:`LIMIT`.

    Raises:
        Unusable: it is.
    """
    if size > LIMIT:
        msg = f"{size} bytes; pictures have at most {LIMIT}"
        raise Unusable(msg)


def text(path: str, parameter: str) -> str:
    """A small UTF-8 file, such as one of class names.

    Raises:
        DataError: it is not there or not UTF-8.
    """
    if not exists(path):
        raise missing(path, parameter, "a text file")
    with opened(path) as file, trouble(path):
        content = file.read(LIMIT + 1)
    try:
        check_size(len(content))
        return content.decode("utf-8-sig")
    except (Unusable, UnicodeDecodeError) as error:
        msg = f"{parameter} {path} is no UTF-8 text: {error}; save it as UTF-8"
        raise DataError(msg) from error


def exists(path: str) -> bool:
    """Whether there is something at ``path``.

    Raises:
        DataError: its server cannot be reached, or refuses to tell.
    """
    with trouble(path):
        if not is_address(path):
            return os.path.exists(path)
        files, name = system(path)
        return files.exists(name) or _answers(files, name)


def _answers(files: AbstractFileSystem, name: str) -> bool:
    """Whether a file is there after all: to be asked, fsspec takes any failure for its absence."""
    try:
        files.cat_file(name, start=0, end=1)
    except FileNotFoundError:
        return False
    return True


def missing(path: str, parameter: str, expected: str) -> DataError:
    """What to raise where ``path`` is not there."""
    place = "" if is_address(path) else f" from {Path.cwd()}"
    return DataError(f"{parameter} {path} not found{place}; expected {expected}: set {parameter}")


def mark(path: str) -> str:
    """What changes when the file does: its size, and its time or its store's hash of it.

    Raises:
        DataError: it is not there.
    """
    with trouble(path):
        if not is_address(path):
            found = os.stat(path)
            return f"{found.st_size} {found.st_mtime_ns}"
        files, name = system(path)
        return version(files.info(name))


def size(path: str) -> int:
    """How many bytes the file has.

    Raises:
        DataError: it is not there.
    """
    with trouble(path):
        if not is_address(path):
            return os.path.getsize(path)
        files, name = system(path)
        return files.size(name) or 0


def version(info: dict[str, Any]) -> str:
    """The same, from the metadata of fsspec."""
    return f"{info.get('size')} {next((info[key] for key in _TIMES if info.get(key)), '')}"


def local_mark(path: str) -> str:
    """As :func:`mark`, of one file among many here; an error is a mark as well."""
    try:
        found = os.stat(path)
    except OSError as error:
        return f"- {error.errno}"
    return "" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} {found.st_mtime_ns}"


def digest(lines: Iterable[str]) -> str:
    """sha256 of lines of text; names that are not UTF-8 stand for the bytes they were."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()
