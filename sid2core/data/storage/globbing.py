"""Data sets that come as many files of one kind: a file, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from typing import NamedTuple

from sid2core.data.errors import DataError
from sid2core.data.storage import paths as places
from sid2core.data.storage.trees import ROOT, LocalTree, RemoteTree, Tree, walk

_MANY = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


class File(NamedTuple):
    """One of the files, or (with its problem) what lies among them."""

    name: str
    """Below the folder that all of them lie in."""
    path: str
    problem: str | None = None


def matching(path: str, parameter: str, extension: str) -> list[File]:
    """The files of an ``extension`` at ``path``, sorted by name; in a folder, the others as well.

    ``path`` is such a file, a folder (searched through), or a pattern with ``*``, ``?``, ``[…]``
    and braces, ``{000..146}`` or ``{a,b}``. It may be an address.

    Raises:
        DataError: nothing is there, or nothing for a part of the pattern.
    """
    path = places.plain(path)
    if re.search(r"[*?{\[]", path) and (places.is_address(path) or not os.path.exists(path)):
        return _named(_of_pattern(path, parameter, extension))
    if not places.exists(path):
        raise places.missing(path, parameter, f"a {extension} file, a folder or a pattern of such")
    if places.is_address(path):
        if path.endswith(extension):
            return _named([path])
        return _below(RemoteTree(path), extension)
    return _below(LocalTree(path), extension) if os.path.isdir(path) else _named([path])


def _below(tree: Tree, extension: str) -> list[File]:
    problem = f"not a {extension} file"
    return [
        File(
            item.path,
            places.join(tree.root, item.path),
            item.problem or (None if item.name.endswith(extension) else problem),
        )
        for item in walk(tree, ROOT)
        if not item.is_folder
    ]


def _named(paths: list[str]) -> list[File]:
    """Files by their path below the folder that all of them lie in."""
    folders = [path.rpartition("/")[0].split("/") for path in paths]
    common = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    depth = sum(1 for _ in common)
    return sorted(File("/".join(path.split("/")[depth:]), path) for path in paths)


def _of_pattern(pattern: str, parameter: str, extension: str) -> list[str]:
    found = dict[str, None]()
    for one in braced(pattern, parameter):
        matches = _globbed(one)
        if not matches:
            raise places.missing(one, parameter, f"{extension} files of that name")
        found.update(dict.fromkeys(matches))
    return list(found)


def _globbed(pattern: str) -> list[str]:
    if not places.is_address(pattern):
        return [path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)]
    files, name = places.system(pattern)
    with places.trouble(pattern):
        found = files.glob(name) if re.search(r"[*?\[]", name) else [name] * places.exists(pattern)
        return [files.unstrip_protocol(one) for one in found]


def braced(pattern: str, parameter: str) -> list[str]:
    """``pattern`` once for each way to fill its braces: ``{08..10}`` or ``{a,b}``.

    Raises:
        DataError: there are too many ways.
    """
    parts = _BRACES.split(pattern)
    choices = [_choices(part) if place % 2 else [part] for place, part in enumerate(parts)]
    count = math.prod(len(choice) for choice in choices)
    if count > _MANY:
        msg = f"{parameter} {pattern} stands for {count} files; expected at most {_MANY}: "
        raise DataError(f"{msg}correct what its braces count")
    return ["".join(filling) for filling in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",")
    first, last = ends.groups()
    width = len(first) if first.startswith("0") else 0
    if int(last) - int(first) >= _MANY:
        return [inside] * (_MANY + 1)  # too many to write down
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
