"""Names of splits among folders and files: ``train`` and ``val`` are not classes.

Images of several splits under one path would train on what they are evaluated with, so they are
refused with the two paths to set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from sid2core.data.errors import DataError
from sid2core.data.sources.protocol import beside
from sid2core.data.storage.globbing import File
from sid2core.errors import few, printable

_ORDER = ("train", "validation", "dev", "test")
"""The order in which to choose a split to train on and one to evaluate with."""
_CANONICAL = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "eval": "validation",
    "testing": "test",
}
_NAMES = "training|train|validation|valid|val|dev|testing|test|eval"
_WHOLE = re.compile(rf"({_NAMES})([-_ ]?(set|split|data|images?))?\d*", re.IGNORECASE)
_PART = re.compile(rf"(?:^|[-_.])({_NAMES})(?=[-_.]|$)", re.IGNORECASE)


def among(names: Iterable[str], *, alone: bool = True) -> dict[str, str]:
    """The folders that are splits: the first name of each split, in the order to choose them.

    A name such as ``train`` or ``test_set`` is one. A name that only contains one, such as
    ``seg_train``, counts if half of all names do. A single split among other names is a class,
    ``alone`` it is a split.
    """
    names = list(names)
    found = _by_split((name, _WHOLE.fullmatch(name)) for name in names)
    if len(found) < 2 and not (found and alone and len(names) == 1):
        found = _by_split((name, _PART.search(name)) for name in names)
        if len(found) < 2 or 2 * len(found) < len(names):
            return {}
    return {split: found[split] for split in _ORDER if split in found}


def check_folders(
    names: Iterable[str],
    join: Callable[[str], str],
    where: str,
    parameter: str,
    *,
    escape: str = "",
    alone: bool = True,
) -> None:
    """Refuse folders that are named like splits; see :func:`among`.

    Args:
        names: the folders at the level of the classes.
        join: from a name to the path to set.
        where: the parameter and the path, for messages.
        parameter: the key of the path.
        escape: another cure, for data whose classes have these names.
        alone: whether a single folder of such a name is refused as well.

    Raises:
        DataError: there are several splits, or nothing but one.
    """
    found = among(names, alone=alone)
    if found:
        paths = {split: join(name) for split, name in found.items()}
        raise _refused(paths, list(found.values()), "folders", where, parameter, escape)


def check_files(files: Iterable[File], where: str, parameter: str) -> None:
    """Refuse files of several splits: those in folders, or with names, such as ``train-00.tar``.

    Raises:
        DataError: they are.
    """
    found = dict[str, str]()
    for file in files:
        *folders, name = file.name.split("/")
        inside = (_WHOLE.fullmatch(folder) for folder in folders)
        place = next((place for place, one in enumerate(inside) if one), None)
        if place is not None:
            split, below = folders[place], "/".join([*folders[place + 1 :], name])
            found.setdefault(_split(split), file.path.removesuffix(f"/{below}"))
        elif match := _PART.search(name):
            pattern = f"{name[: match.end() + 1]}*"
            found.setdefault(_split(match[1]), f"{file.path.removesuffix(name)}{pattern}")
    if len(found) > 1:
        raise _refused(found, sorted(found), "files of several splits", where, parameter, "")


def _split(name: str) -> str:
    match = _WHOLE.fullmatch(name)
    word = (match[1] if match else name).lower()
    return _CANONICAL.get(word, word)


def _by_split(matches: Iterable[tuple[str, re.Match[str] | None]]) -> dict[str, str]:
    """The first name of each split."""
    found: dict[str, str] = {}
    for name, match in matches:
        if match is not None:
            found.setdefault(_split(match[1]), name)
    return found


def _refused(
    found: dict[str, str], names: list[str], what: str, where: str, parameter: str, escape: str
) -> DataError:
    order = sorted(found, key=_ORDER.index)
    keys = [beside(parameter, part) for part in ("path", "eval_path")]
    cures = [f"{key} to {printable(found[split])}" for key, split in zip(keys, order, strict=False)]
    msg = f"{where} holds {what} ({few(names)}), which are splits and not classes"
    return DataError(f"{msg}: set {' and '.join(cures)}{escape}")
