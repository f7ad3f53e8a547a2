"""Folders of files to walk through and open: on disk, behind an address, or within an archive.

Names that start with a dot, and those that operating systems leave in every folder, are no part of
the data. Everything else is found,
and what cannot be used says why.
"""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from typing_extensions import Protocol, runtime_checkable

from sid2core.data.errors import DataError, Unusable
from sid2core.data.storage import paths


class Item(NamedTuple):
    """A file or a folder of a tree."""

    path: str
    """Below the root, with slashes."""
    place: Any = None
    """How the tree opens the file; of an archive's folder, the items that it holds."""
    is_folder: bool = False
    problem: str | None = None
    """Why the file cannot be used, where that is known already."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


_SYSTEM = ("__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini")
"""What macOS, Synology and Windows leave in folders of pictures."""
ROOT = Item("", is_folder=True)


@runtime_checkable
class Tree(Protocol):
    """What sources of files read from; pickled and sent to the processes that read it."""

    @property
    def root(self) -> str:
        """The path or address that it stands for."""
        ...

    def scan(self, folder: Item) -> list[Item]:
        """What a folder holds, sorted by name, without hidden names.

        Raises:
            DataError: it cannot be listed.
        """
        ...

    def open(self, path: str, place: Any) -> AbstractContextManager[BinaryIO]:
        """The file of an item, to be read while the context lasts.

        Raises:
            Unusable: the file cannot be had, and this is its own fault.
            DataError: the disk, the network or the archive fails.
        """
        ...

    def stamp(self) -> str:
        """What changes when names, sizes or times do."""
        ...


def walk(tree: Tree, folder: Item) -> Iterator[Item]:
    """All that lies below ``folder``, in the order of names, a folder before what it holds."""
    pending = [folder]
    while pending:
        item = pending.pop()
        if item is not folder:
            yield item
        if item.is_folder:
            pending.extend(reversed(tree.scan(item)))


def hidden(name: str) -> bool:
    """Whether a name says that it is no data."""
    return name.startswith(".") or name.casefold() in _SYSTEM


@dataclass(frozen=True)
class LocalTree:
    """A folder on disk; the place of a folder is whether it lies behind a link.

    Links to files are followed. So are links to folders, but for those into a folder that they lie
    in, and in such a way that no folder is read twice.
    """

    root: str

    def scan(self, folder: Item) -> list[Item]:
        """As :meth:`Tree.scan`."""
        return sorted(self._item(folder, one) for one in self._listed(folder.path))

    @contextmanager
    def open(self, path: str, place: Any) -> Iterator[BinaryIO]:
        """As :meth:`Tree.open`."""
        whole = paths.join(self.root, path)
        with paths.faults(whole):
            if not stat.S_ISREG(os.stat(whole).st_mode):
                msg = "not a regular file"
                raise Unusable(msg)
            with Path(whole).open("rb") as file:
                yield file

    def stamp(self) -> str:
        """As :meth:`Tree.stamp`."""
        return paths.digest(
            f"{item.path}\0{paths.local_mark(paths.join(self.root, item.path))}"
            for item in walk(self, ROOT)
        )

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        path = paths.join(self.root, folder)
        try:
            with os.scandir(path) as found:
                return [one for one in found if not hidden(one.name)]
        except OSError as error:
            msg = f"{path} cannot be listed ({error.strerror}); see to its permissions and its disk"
            raise DataError(msg) from error

    def _item(self, folder: Item, found: os.DirEntry[str]) -> Item:
        path = paths.join(folder.path, found.name)
        if not _is_folder(found):
            return Item(path)
        linked = bool(folder.place) or found.is_symlink()
        if linked and path in self._aside:
            return Item(path, problem=self._aside[path])
        return Item(path, linked, is_folder=True)

    @functools.cached_property
    def _aside(self) -> dict[str, str]:
        """Why links to folders, and folders behind links, are not followed: by their paths.

        It takes a walk through all that is read, in the order of names. ``heads`` are the real
        paths of the root and of what the links led to that were followed so far.
        """
        root = os.path.realpath(self.root)
        aside, heads, pending = dict[str, str](), {root}, [("", root)]
        while pending:
            folder, real = pending.pop()
            inner = []
            for found in sorted(self._listed(folder), key=lambda one: one.name):
                if not _is_folder(found):
                    continue
                linked, path = found.is_symlink(), paths.join(folder, found.name)
                below = f"{real.rstrip('/')}/{found.name}"
                target = os.path.realpath(found.path) if linked else below
                if linked and self._leads_back(folder, target):
                    aside[path] = "a link to a folder that it lies in"
                elif linked and _is_below(target, heads):
                    aside[path] = "a link to a folder that is read anyway"
                elif not linked and target in heads:
                    aside[path] = "a folder that a link led to before"
                else:
                    inner.append((path, target))
                    heads |= {target} if linked else set()
            pending.extend(reversed(inner))
        return aside

    def _leads_back(self, folder: str, target: str) -> bool:
        """Whether a link in ``folder`` leads to it, or to one above it, by any path."""
        parts = folder.split("/")
        above = ("/".join(parts[:depth]) for depth in range(len(parts) + 1))
        return any(
            Path(os.path.realpath(paths.join(self.root, path))).is_relative_to(target)
            for path in above
        )


def _is_folder(found: os.DirEntry[str]) -> bool:
    try:
        return found.is_dir()
    except OSError:  # a link in a circle; as a file it will be set aside with this reason
        return False


def _is_below(path: str, heads: set[str]) -> bool:
    """Whether a walk from one of ``heads`` comes to ``path``; it passes no hidden names."""
    parts = path.split("/")
    for depth in range(len(parts), 0, -1):
        if ("/".join(parts[:depth]) or "/") in heads:
            return True
        if hidden(parts[depth - 1]):
            return False
    return False


@dataclass(frozen=True)
class RemoteTree:
    """A folder behind an address of fsspec; the place of a file is its size, if that is known."""

    root: str

    def scan(self, folder: Item) -> list[Item]:
        """As :meth:`Tree.scan`."""
        return [item for item, _ in self._scan(folder)]

    @contextmanager
    def open(self, path: str, place: Any) -> Iterator[BinaryIO]:
        """As :meth:`Tree.open`; the file comes whole, by one request where its size is known."""
        yield io.BytesIO(paths.whole(paths.join(self.root, path), place))

    def stamp(self) -> str:
        """As :meth:`Tree.stamp`."""
        return paths.digest(self._marks(ROOT))

    def _marks(self, folder: Item) -> Iterator[str]:
        for item, info in self._scan(folder):
            yield f"{item.path}\0{'' if item.is_folder else paths.version(info)}"
            if item.is_folder:
                yield from self._marks(item)

    def _scan(self, folder: Item) -> list[tuple[Item, dict[str, Any]]]:
        address = paths.join(self.root, folder.path)
        files, name = paths.system(address)
        with paths.trouble(address):
            found = files.ls(name, detail=True)
            files.invalidate_cache(name)  # it would keep every listing for good
        items = []
        for info in found:
            child = info["name"].rstrip("/").rpartition("/")[2]
            itself = info["name"].strip("/") == name.strip("/")  # as some stores list it
            if itself or hidden(child) or child.startswith("?"):  # a web page's links to sort it
                continue
            is_folder = info["type"] == "directory"
            path = paths.join(folder.path, child)
            items.append((Item(path, None if is_folder else info.get("size"), is_folder), info))
        return sorted(items, key=lambda pair: pair[0].path)
