"""Zip and tar archives as trees: listed once, then read by offset, unpacked nowhere.

Of a tar that holds tars, as ImageNet's training images come, each inner one is a folder. Names that
lead out of the archive, links to what it does not hold, encrypted members and the like are items
with their problem.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from sid2core import stand_ins
from sid2core.data.errors import DataError, Unusable
from sid2core.data.storage import paths as places
from sid2core.data.storage import tars
from sid2core.data.storage.tars import Member
from sid2core.data.storage.trees import Item, hidden
from sid2core.errors import few

_DEEP = 32
LONG = 1024
"""Characters of a name that is followed, and as many of one that is not are shown."""
_HOPS = 8
_LOCAL = struct.Struct("<4s22xHH")
_SLACK = 512
_MAGIC = b"PK\3\4"


class Packed(NamedTuple):
    """Where a member of a zip lies, and what must come out of it."""

    offset: int
    packed: int
    size: int
    crc: int
    method: int


@dataclass
class _Folder:
    files: list[Item] = field(default_factory=list)
    folders: dict[str, _Folder] = field(default_factory=dict)

    def at(self, parts: list[str]) -> _Folder:
        """The folder of that name below, made where it is not there yet."""
        folder = self
        for part in parts:
            folder = folder.folders.setdefault(part, _Folder())
        return folder

    def add(self, name: str, place: Any = None, problem: str | None = None) -> None:
        """Add a file, unless it is hidden; one of a name that is not followed lies at the root."""
        parts, wrong = split(name)
        if wrong is not None:
            self.files.append(Item(name[:LONG], problem=wrong))
        elif parts:
            self.at(parts[:-1]).files.append(Item("/".join(parts), place, problem=problem))

    def take(self, other: _Folder, above: str) -> None:
        """Take over all that a folder holds, which lies at ``above`` from now on."""
        self.files += [item._replace(path=f"{above}/{item.path}") for item in other.files]
        for name, folder in other.folders.items():
            self.at([name]).take(folder, above)

    def items(self, above: str = "") -> list[Item]:
        """What it holds, sorted; each folder holds its own in turn."""
        paths = {name: places.join(above, name) for name in self.folders}
        inner = [
            Item(paths[name], folder.items(paths[name]), is_folder=True)
            for name, folder in self.folders.items()
        ]
        return sorted([*self.files, *inner], key=lambda item: item.path)

    def all_files(self) -> Iterator[Item]:
        """Every file, here and below."""
        yield from self.files
        for folder in self.folders.values():
            yield from folder.all_files()


def split(name: str) -> tuple[list[str], str | None]:
    """The parts of a member's name, none where it is hidden; or why it is not followed."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        return [], "its name leads out of the archive"
    if len(parts) > _DEEP or len(name) > LONG:
        return [], f"its name has more than {_DEEP} folders or {LONG} characters"
    if not parts:
        return [], "it has no name"
    return ([] if any(hidden(part) for part in parts) else parts), None


@dataclass(frozen=True)
class _Archive(ABC):
    """An archive, or the folder ``below`` in it, with which ``root`` then ends."""

    root: str
    below: str = ""

    @property
    def archive(self) -> str:
        """The path or address of the archive itself."""
        return self.root.removesuffix(f"/{self.below}") if self.below else self.root

    def scan(self, folder: Item) -> list[Item]:
        """As :meth:`.trees.Tree.scan`; the first call lists the whole archive."""
        found = folder.place if folder.path else self._top()
        if not self.below:
            return found
        return [item._replace(path=item.path.removeprefix(f"{self.below}/")) for item in found]

    def stamp(self) -> str:
        """As :meth:`sid2core.data.storage.trees.Tree.stamp`: of the archive itself."""
        return places.digest([places.mark(self.archive)])

    @abstractmethod
    def _list(self) -> list[Item]:
        """All top-level items of the archive."""

    def _top(self) -> list[Item]:
        found = self._list()
        for part in filter(None, self.below.split("/")):
            inner = [item for item in found if item.is_folder and item.name == part]
            if not inner:
                names = few(item.name for item in found if item.is_folder)
                msg = f"{self.archive} has no folder {self.below}; found {names or 'no folder'}"
                raise DataError(f"{msg}: correct what follows the archive's name in the path")
            found = inner[0].place
        return found


@dataclass(frozen=True)
class ZipTree(_Archive):
    """A zip archive; the place of a file is :class:`Packed`."""

    def open(self, path: str, place: Packed) -> BinaryIO:
        """As :meth:`sid2core.data.storage.trees.Tree.open`."""
        return io.BytesIO(unpacked(self.archive, place))

    def _list(self) -> list[Item]:
        return _zipped(self.archive, places.mark(self.archive))


@dataclass(frozen=True)
class TarTree(_Archive):
    """An uncompressed tar archive; the place of a file is its offset and size."""

    def open(self, path: str, place: tuple[int, int]) -> BinaryIO:
        """As :meth:`sid2core.data.storage.trees.Tree.open`."""
        return io.BytesIO(stored(self.archive, *place))

    def _list(self) -> list[Item]:
        return _tarred(self.archive, places.mark(self.archive))


_INNER = re.compile(r"(.+?\.(zip|tar))/(.*[^/])/*", re.IGNORECASE)


def inner(path: str) -> tuple[str, str] | None:
    """Of ``pets.zip/train`` the archive and the folder in it; None if the path has no archive."""
    match = _INNER.fullmatch(path)
    return (match[1], match[3]) if match else None


def stored(path: str, offset: int, size: int) -> bytes:
    """Bytes of an archive.

    Raises:
        Unusable: it ends before them, or they are too many.
        DataError: it cannot be read.
    """
    places.check_size(size)
    content = places.part(path, offset, size)
    if len(content) < size:
        msg = f"cut off after {len(content)} of {size} bytes"
        raise Unusable(msg)
    return content


def unpacked(path: str, place: Packed) -> bytes:
    """The bytes of a zip's member, checked; never more than it states, nor than the limit.

    Raises:
        Unusable: it is damaged or too large.
        DataError: the archive cannot be read.
    """
    places.check_size(max(place.packed, place.size))
    # The name and the extra field in between are mostly short: one request for all of it.
    content = places.part(path, place.offset, _LOCAL.size + _SLACK + place.packed)
    try:
        magic, name, extra = _LOCAL.unpack_from(content)
        start = _LOCAL.size + name + extra
        if len(content) < start + place.packed:
            content = stored(path, place.offset, start + place.packed)
        content = content[start : start + place.packed]
        if place.method == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-15).decompress(content, place.size + 1)
    except (struct.error, zlib.error) as error:
        msg = f"damaged: {error}"
        raise Unusable(msg) from None
    if magic != _MAGIC or len(content) != place.size or zlib.crc32(content) != place.crc:
        msg = "damaged: its bytes do not match the archive's table"
        raise Unusable(msg)
    return content


@functools.lru_cache(maxsize=2)
def _zipped(path: str, mark: str) -> list[Item]:
    root = _Folder()
    with places.opened(path) as file, closing(zip_of(file, path)) as archive:
        infos = archive.infolist()[::-1]
        archive.filelist, archive.NameToInfo = [], {}  # each goes when its turn is over
        while infos:
            _plant_zipped(root, infos.pop())
    return root.items()


def _plant_zipped(root: _Folder, info: zipfile.ZipInfo) -> None:
    name = _zip_name(info)
    if name.endswith("/"):  # is_dir fails on an empty name
        root.at(split(name)[0])
        return
    place = Packed(
        info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type
    )
    root.add(name, place, _zip_problem(info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    r"""A member's name with ``/`` between its parts, although some programs write ``\``.

    Many programs write UTF-8 without the flag that says so.
    """
    name = info.filename
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _zip_problem(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 1:
        return "encrypted, so that it takes a password to read it"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link, not the file that it leads to"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed by method {info.compress_type}, neither stored nor deflated"
    return None


def begin(file: BinaryIO, offset: int, path: str) -> int:
    """Where the bytes of a zip's member begin whose local header lies at ``offset``.

    Raises:
        DataError: there is no such header.
    """
    file.seek(offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(_MAGIC):
        msg = f"{path} is damaged at byte {offset}, where a member should begin: save it anew"
        raise DataError(msg)
    _, name, extra = _LOCAL.unpack(header)
    return offset + _LOCAL.size + name + extra


def zip_of(file: BinaryIO, path: str) -> zipfile.ZipFile:
    """The zip archive in ``file``.

    Raises:
        DataError: it is empty, its table of contents cannot be read, or its server gives no parts.
    """
    try:
        return zipfile.ZipFile(file)
    except MemoryError:
        raise
    except Exception as error:  # what zipfile raises of damaged tables is nearly anything
        places.check_parts(file, path)
        stand_ins.check(file, path, DataError)
        msg = f"{path} cannot be read as a zip archive ({error}): fetch or pack it anew"
        raise DataError(msg) from error


@functools.lru_cache(maxsize=2)
def _tarred(path: str, mark: str) -> list[Item]:
    root = _Folder()
    with places.opened(path) as file:
        _plant(root, file, path)
    return root.items()


def _plant(root: _Folder, file: BinaryIO, path: str, around: Member | None = None) -> None:
    """Add the members of the tar at ``path``, or of the one that is its member ``around``.

    Those that are tars become folders; but what these hold does not.
    """
    span = (0, None) if around is None else (around.offset, around.offset + around.size)
    where = path if around is None else f"{around.name!r} in {path}"
    links = list[Member]()
    for member in tars.members(file, where, *span):
        if member.link is not None:
            links.append(member)
        elif member.is_folder:
            root.at(split(member.name)[0])
        elif around is not None or member.problem or not member.name.endswith(".tar"):
            root.add(member.name, (member.offset, member.size), member.problem)
        else:
            _plant_inner(root, file, path, member)
    _follow(root, links)


def _plant_inner(root: _Folder, file: BinaryIO, path: str, member: Member) -> None:
    parts, wrong = split(member.name.removesuffix(".tar"))
    if wrong is not None:
        root.add(member.name, problem=wrong)
    elif parts:
        folder = _Folder()
        _plant(folder, file, path, member)
        root.at(parts).take(folder, "/".join(parts))


def _follow(root: _Folder, links: list[Member]) -> None:
    """Add links to files of the archive as these files."""
    if not links:
        return
    files = {item.path: item.place for item in root.all_files() if item.problem is None}
    targets = {_path(link.name): _path(link.link or "") for link in links}
    targets.pop("", None)  # of names that are not followed
    for link in links:
        target = _path(link.link or "")
        for _ in range(_HOPS):
            target = targets.get(target, target)
        problem = None if target in files else "a link to no file of the archive"
        root.add(link.name, files.get(target), problem)


def _path(name: str) -> str:
    return "/".join(split(name)[0])
