"""The members of a tar archive by their offsets, from an archive that is not trusted."""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sid2core.data import places
from sid2core.data.errors import DataError, Unusable

_HEADER = 2**20
"""Bytes of one header at most, extended ones included; and how far behind the end is looked."""
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class Member(NamedTuple):
    """One member; of a broken one, or of what is no file, ``problem`` says so."""

    name: str
    offset: int = 0
    """Where its bytes begin, from the file's own beginning."""
    size: int = 0
    is_folder: bool = False
    link: str | None = None
    """The name of the member that it stands for."""
    problem: str | None = None


def unpacker(path: str) -> str | None:
    """The program that makes a plain tar of a compressed file, or None where it is none."""
    start = places.part(path, 0, 6)
    return next((tool for magic, tool in _COMPRESSED.items() if start.startswith(magic)), None)


def is_compressed(path: str) -> bool:
    """Whether it is called a compressed tar, such as ``.tar.gz`` or ``.tgz``."""
    return re.search(r"\.(tar\.\w+|t[gbx]z2?|tzst)$", path.lower()) is not None


def refused(path: str, where: str) -> DataError:
    """What to raise where ``path`` is not a tar whose members can be read one by one."""
    tool = unpacker(path)
    if tool is None:
        return DataError(f"{where} is not a tar archive, or a damaged one: fetch or pack it anew")
    msg = f"{where} is compressed, so its members cannot be read one by one: unpack it with {tool}"
    return DataError(msg)


def members(file: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """The members of the tar between two offsets of ``file``, in its own order.

    A damaged or cut archive gives what comes before, and a last member that says where it ends.

    Raises:
        Unusable: there is no tar archive.
    """
    end = file.seek(0, os.SEEK_END) if end is None else end
    try:
        tar = tarfile.open(  # noqa: SIM115 (it would close nothing: the file is the caller's)
            fileobj=_Blocks(file, start, end),  # type: ignore[call-overload]
            mode="r:",
            encoding="utf-8",
            errors="surrogateescape",
        )
    except Exception as error:
        raise _unless_of_the_system(error) from None
    reached = start
    while True:
        try:
            info = tar.next()
        except Exception as error:
            _unless_of_the_system(error)
            break
        if info is None or tar.offset <= reached:  # a negative size
            break
        tar.members.clear()  # it would keep them all, a kilobyte each
        member = _member(info, end)
        yield member
        reached = tar.offset
        if member.offset + member.size > end:
            return
    yield from _rest(file, start, reached, end)


def _member(info: tarfile.TarInfo, end: int) -> Member:
    name, size = info.name, info.size
    if info.isdir():
        return Member(name, is_folder=True)
    if info.islnk():
        return Member(name, link=info.linkname)
    if info.issym():
        inside = not info.linkname.startswith("/")
        target = posixpath.join(posixpath.dirname(name), info.linkname)
        return Member(name, link=posixpath.normpath(target) if inside else info.linkname)
    if not info.isreg():
        return Member(name, problem="not a regular file")
    problem = None
    if info.issparse():
        problem = "a sparse file: pack the archive without --sparse"
    elif info.offset_data + size > end:
        problem = f"cut off after {max(end - info.offset_data, 0)} of {size} bytes"
    return Member(name, info.offset_data, size, problem=problem)


def _rest(file: BinaryIO, start: int, at: int, end: int) -> Iterator[Member]:
    """What follows the last member: zeros, or else the archive is damaged or another one begins."""
    if not _at(file, at, min(_HEADER, end - at)).strip(b"\0"):
        return
    if at == start:
        msg = "not a tar archive"
        raise Unusable(msg)
    yield Member(f"byte {at - start}", problem="the archive is damaged, or another one begins here")


def _unless_of_the_system(error: Exception) -> Unusable:
    """For what tarfile raises of bytes that it does not understand: nearly anything."""
    if isinstance(error, (MemoryError, DataError)) or getattr(error, "errno", None) is not None:
        raise error
    return Unusable("not a tar archive")


class _Blocks:
    """A part of a file, for tarfile, which believes whatever sizes an archive states.

    Reading goes forward only, so it ends, and takes a bounded size at once, so it fits memory.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._at, self._end, self._last = file, start, end, start - 1

    def tell(self) -> int:
        return self._at

    def seek(self, at: int) -> int:
        self._at = at
        return at

    def read(self, size: int) -> bytes:
        if not self._last < self._at or not 0 <= size <= _HEADER:
            msg = f"{size} bytes from {self._at} on are no header"
            raise tarfile.ReadError(msg)
        self._last = self._at
        content = _at(self._file, self._at, min(size, self._end - self._at))
        self._at += len(content)
        return content


def _at(file: BinaryIO, at: int, size: int) -> bytes:
    if size <= 0:  # where sizes are absurd, a file may refuse the offset
        return b""
    file.seek(at)
    return file.read(size)
