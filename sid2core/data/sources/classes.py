"""Which classes there are, in which order, and which one a name or a number stands for."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from sid2core import conditioning
from sid2core.data.decode.video import files
from sid2core.data.errors import DataError
from sid2core.data.sources.protocol import Entry, beside, is_text
from sid2core.data.storage import paths
from sid2core.errors import few, printable

Raw = int | str | None
"""A label as a source has it: a number, a name, or none."""

UNLABELLED = conditioning.UNLABELLED[0]
"""The one class of images that come without labels."""

_log = logging.getLogger(__name__)
_SHOWN = 5
_SYNSET = re.compile(r"n\d{8}(?=\s|$)")
_DIGITS = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_SOURCES = {
    **{".parquet": "parquet", ".tar": "webdataset", ".npz": "arrays", ".npy": "arrays"},
    **dict.fromkeys(files.EXTENSIONS - files.PICTURES, "videos"),
}
_ARCHIVES = "set the path to one of the archives, or unpack them into a folder"
_BINARY = {-1, 1}
"""The numbers of a binary set such as CelebA; a negative number among others is no label."""


def read_names(path: str, key: str) -> tuple[str, ...]:
    """The names in a text file, one per line, in the order of their labels; see :func:`normal`.

    Args:
        path: the file.
        key: the parameter that names it.

    Raises:
        DataError: it is not there, no text, names nothing, or one class twice.
    """
    lines = (line.strip() for line in paths.text(path, key).splitlines())
    names = tuple(normal(line) for line in lines if line)
    if not names:
        msg = f"{key} {path} is empty; expected the names of the classes, one a line"
        raise DataError(msg)
    twice = [name for name, count in Counter(map(identity, names)).items() if count > 1]
    if twice:
        msg = f"{key} {path} names {twice[0]!r} twice; each class has one line"
        raise DataError(msg)
    return names


def normal(name: str) -> str:
    """``name`` in Unicode's composed form (NFC), since macOS writes names in the decomposed one."""
    return unicodedata.normalize("NFC", name)


def of_folders(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in label order: names of folders, sorted; as numbers if all are numbers."""
    found = sorted({normal(name) for name in names})
    if all(_DIGITS.fullmatch(name) for name in found):
        found.sort(key=int)
    return tuple(found)


def identity(name: str) -> str:
    """What files call a class: of ``n01440764 tench, Tinca tinca`` the synset, else all of it."""
    synset = _SYNSET.match(name)
    return synset[0] if synset else name


def numbers(names: Sequence[str]) -> dict[str, int]:
    """The label of each class, by its name and by its identity."""
    return {key: label for label, name in enumerate(names) for key in (identity(name), name)}


def parsed(text: str) -> Raw:
    """A label as text has it: a number where it looks like one, a name, or None of an empty one."""
    text = text.strip()
    return int(text) if _NUMBER.fullmatch(text) else text or None


def ordered(found: Iterable[Raw]) -> tuple[str, ...]:
    """The names of the classes among labels: numbers by size, then names, sorted.

    Negative numbers stand for no label, except in a binary set of -1 and 1.
    """
    distinct = set(found)
    whole = {raw for raw in distinct if isinstance(raw, int)}
    by_number = sorted(raw for raw in whole if raw >= 0 or whole == _BINARY)
    by_name = sorted(normal(raw) for raw in distinct if isinstance(raw, str) and is_text(raw))
    return tuple(dict.fromkeys([*map(str, by_number), *by_name])) or (UNLABELLED,)


class Labels:
    """From a label as a source has it to the class index.

    Where names are ``listed`` (in ``class_names``, or by the source) a number counts them;
    else they are those found, and a number is a name like any other. ``parameter`` is the key of
    the source's path.
    """

    def __init__(
        self, names: Sequence[str], parameter: str, *, listed: bool, labelled: bool = True
    ) -> None:
        self._names, self._listed, self._labelled = names, listed, labelled
        self._key = beside(parameter, "class_names")
        self._by_name = numbers(names)

    def of(self, raw: Raw) -> tuple[int, str | None]:
        """The label, or -1 and why there is none."""
        if raw is None:
            alone = not self._labelled and len(self._names) == 1
            return (0, None) if alone else (-1, "it has no label")
        if isinstance(raw, int) and (self._listed or (raw < 0 and str(raw) not in self._by_name)):
            inside = 0 <= raw < len(self._names)
            reason = f"label {raw}; there are classes 0 to {len(self._names) - 1}"
            return (raw, None) if inside else (-1, reason)
        label = self._by_name.get(normal(str(raw)))
        return (-1, f"its class {raw!r} is not in {self._key}") if label is None else (label, None)


def _other_source(entries: Iterable[Entry]) -> str | None:
    """The cure where files are those of another source, by their names."""
    ends = {os.path.splitext(entry.key)[1].lower() for entry in entries}
    source = next((source for end, source in _SOURCES.items() if end in ends), None)
    if source is not None:
        key = f"data.source.{source}.path"
        return f"set data.source.name to {source}, and {key} to these files"
    return _ARCHIVES if ".zip" in ends else None


def settled(
    entries: list[Entry], class_names: Sequence[str], where: str, layout: str, cure: str
) -> list[Entry]:
    """``entries``, if some can be used; empty classes are named in the log.

    Raises:
        DataError: none can.
    """
    usable = Counter(entry.label for entry in entries if entry.problem is None)
    if not usable:
        reasons = Counter(entry.problem for entry in entries).most_common(_SHOWN)
        found = "; ".join(f"{count} × {printable(str(why))}" for why, count in reasons) or "nothing"
        cure = _other_source(entries) or cure
        msg = f"{printable(where)} holds no {layout}; found {found}: {cure}"
        raise DataError(msg)
    empty = [name for label, name in enumerate(class_names) if not usable[label]]
    if empty:
        _log.warning("%s: no image in %d class(es): %s", printable(where), len(empty), few(empty))
    return entries
