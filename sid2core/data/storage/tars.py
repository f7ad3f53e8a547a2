"""The members of a tar archive by their offsets, from an archive that is not trusted."""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sid2core import stand_ins
from sid2core.data.errors import DataError

_BLOCK = 512
_HEADER = 2**20
"""Bytes of one header at most, extended ones included."""
_PADDING = 2**20
"""Bytes of zeros at the end at most. More are no padding but a download that was never finished."""
_SHOWN = 100
_CURE = "fetch or pack it anew, or leave it out"
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


def is_compressed(path: str) -> bool:
    """Whether it is called a compressed tar, such as ``.tar.gz`` or ``.tgz``."""
    return re.search(r"\.(tar\.\w+|t[gbx]z2?|tzst)$", path.lower()) is not None


def refused(where: str, start: bytes) -> DataError:
    """What to raise of a file that is no plain tar, by the first bytes of it."""
    tool = next((tool for magic, tool in _COMPRESSED.items() if start.startswith(magic)), None)
    if tool is not None:
        msg = f"{where} is compressed, so its members cannot be read one by one"
        return DataError(f"{msg}: unpack it with {tool}")
    other = stand_ins.recognised(start)
    if other is not None:
        return DataError(f"{where} is {other}")
    found = "is not a tar archive, or a damaged one" if start else "is empty, and no tar archive"
    return DataError(f"{where} {found}: {_CURE}")


def members(file: BinaryIO, where: str, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """The members of the tar between two offsets of ``file``, in its own order.

    Raises:
        DataError: it is no tar, or cannot be read up to the mark of its end. What lies behind the
            damage is not known, so it can be neither read nor set aside.
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
        _unless_of_the_system(error)
        raise refused(where, _at(file, start, min(_SHOWN, end - start))) from None
    reached = start
    while (info := _next(tar)) is not None and reached < tar.offset:  # else of a negative size
        if tar.offset > end:
            name = info.name[:_SHOWN]
            msg = f"{where} is cut off at byte {end - start}, within its {name!r}"
            raise DataError(f"{msg}, and what came behind is lost: {_CURE}")
        reached = tar.offset
        yield _member(info)
    _check_end(file, where, start, reached, end)


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next member, or None where there is no header of one."""
    try:
        info = tar.next()
    except Exception as error:
        _unless_of_the_system(error)
        return None
    tar.members.clear()  # type: ignore[attr-defined] # it would keep them all, a kilobyte each
    return info


def _member(info: tarfile.TarInfo) -> Member:
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
    problem = "a sparse file, as tar --sparse makes it" if info.issparse() else None
    return Member(name, info.offset_data, size, problem=problem)


def _check_end(file: BinaryIO, where: str, start: int, at: int, end: int) -> None:
    """Refuse anything but zeros behind the last member: a block of them at least is the mark."""
    left = end - at
    tail = _at(file, at, min(left, _PADDING))
    blank = not tail.strip(b"\0")
    if blank and _BLOCK <= left <= _PADDING:
        return
    if at == start:
        raise refused(where, tail)
    if left < _BLOCK:
        msg = f"{where} ends at byte {end - start} without the mark of a tar's end, as if cut off"
        raise DataError(f"{msg} there: {_CURE}")
    found = "begin zeros that are no padding" if blank else "it is damaged, or another one begins"
    msg = f"{where}: at byte {at - start} {found}; {left} of its {end - start} bytes"
    raise DataError(f"{msg} ({100 * left / (end - start):.1f} %) lie behind, unlisted: {_CURE}")


def _unless_of_the_system(error: Exception) -> None:
    """Let go what tarfile raises of bytes that it does not understand: nearly anything."""
    if isinstance(error, (MemoryError, DataError)) or getattr(error, "errno", None) is not None:
        raise error


class _Blocks:
    """A part of a file, for tarfile, which trusts the sizes that an archive states.

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
