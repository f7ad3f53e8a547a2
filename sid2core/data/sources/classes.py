"""Which classes there are, in which order, and which one a name or a number stands for."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sid2core import conditioning
from sid2core.data.errors import DataError
from sid2core.data.sources.protocol import Entry, beside, is_text
from sid2core.data.storage import paths

Raw = int | str | None
"""How a source tells a label: by number, by name, or not at all."""

UNLABELLED = conditioning.UNLABELLED[0]
"""The one class of images that come without labels."""

_log = logging.getLogger(__name__)
_SHOWN = 5
_SYNSET = re.compile(r"n\d{8}(?=\s|$)")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_BOXES = re.compile(r"(n\d{8})(\s+\d+){4}(\s+n\d{8}(\s+\d+){4})*\s*")


def read_names(path: str, key: str) -> tuple[str, ...]:
    """The names in a text file, one per line, in the order of their labels.

    Args:
        path: the file.
        key: the parameter that names it.

    Raises:
        DataError: it is not there, no text, names nothing, or one class twice.
    """
    lines = (line.strip() for line in paths.text(path, key).splitlines())
    names = tuple(line for line in lines if line)
    if not names:
        msg = f"{key} {path} is empty; expected the names of the classes, one a line"
        raise DataError(msg)
    twice = [name for name, count in Counter(map(identity, names)).items() if count > 1]
    if twice:
        msg = f"{key} {path} names {twice[0]!r} twice; each class has one line"
        raise DataError(msg)
    return names


def identity(name: str) -> str:
    """What files call a class: of ``n01440764 tench, Tinca tinca`` the synset, else all of it."""
    synset = _SYNSET.match(name)
    return synset[0] if synset else name


def read_labels(path: str, key: str) -> dict[str, str]:
    """The class of each file that a CSV of ``name,class`` names.

    Of ImageNet's ``n03995372 85 1 499 272``, a class and the box around it, the class counts.
    A header names a file that is not there, and so does no harm.

    Args:
        path: the CSV.
        key: the parameter that names it.

    Raises:
        DataError: it is not there or no such CSV, or gives a file two classes.
    """
    found: dict[str, str] = {}
    try:
        for number, row in enumerate(csv.reader(paths.text(path, key).splitlines()), start=1):
            if not row:
                continue
            if len(row) < 2:
                msg = f"{key} {path}, line {number}: found {row[0]!r}; expected name,class"
                raise DataError(msg)
            name, label = row[0].strip().removeprefix("./"), row[1].strip()
            boxes = _BOXES.fullmatch(label)
            label = boxes[1] if boxes else label
            if found.setdefault(name, label) != label:
                msg = f"{key} {path}, line {number}: {name} is {label!r} here and "
                raise DataError(f"{msg}{found[name]!r} before; give it one class")
    except csv.Error as error:
        msg = f"{key} {path} is no CSV ({error}); expected lines of name,class"
        raise DataError(msg) from error
    return found


def looked_up(labels: Mapping[str, str], path: str) -> str | None:
    """What ``labels`` say of a file: by path or by name alone, each with its extension or not."""
    name = path.rpartition("/")[2]
    for key in (path, _stem(path), name, _stem(name)):
        if key in labels:
            return labels[key]
    return None


def _stem(path: str) -> str:
    above, dot, extension = path.rpartition(".")
    return above if dot and "/" not in extension else path


def numbers(names: Sequence[str]) -> dict[str, int]:
    """The label of each class, by its name and by its identity."""
    return {key: label for label, name in enumerate(names) for key in (identity(name), name)}


def parsed(text: str) -> Raw:
    """A label as text has it: a number where it looks like one, a name, or None of an empty one."""
    text = text.strip()
    return int(text) if _NUMBER.fullmatch(text) else text or None


def ordered(found: Iterable[Raw]) -> tuple[str, ...]:
    """The names of the classes that labels tell of: numbers by size, then names, sorted."""
    distinct = set(found)
    by_number = sorted(raw for raw in distinct if isinstance(raw, int) and raw >= 0)
    by_name = sorted(raw for raw in distinct if isinstance(raw, str) and is_text(raw))
    return tuple(dict.fromkeys([*map(str, by_number), *by_name])) or (UNLABELLED,)


class Labels:
    """From what a source tells of a label to the label itself.

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
        if isinstance(raw, int) and (raw < 0 or self._listed):
            inside = 0 <= raw < len(self._names)
            reason = f"label {raw}; there are classes 0 to {len(self._names) - 1}"
            return (raw, None) if inside else (-1, reason)
        label = self._by_name.get(str(raw))
        return (-1, f"its class {raw!r} is not in {self._key}") if label is None else (label, None)


def settled(
    entries: list[Entry], class_names: Sequence[str], where: str, layout: str, cure: str
) -> list[Entry]:
    """``entries``, once it is sure that some can be used; tells in the log of empty classes.

    Raises:
        DataError: none can.
    """
    usable = Counter(entry.label for entry in entries if entry.problem is None)
    if not usable:
        reasons = Counter(entry.problem for entry in entries).most_common(_SHOWN)
        found = "; ".join(f"{count} × {reason}" for reason, count in reasons) or "nothing"
        msg = f"{where} holds no {layout}; found {found}: {cure}"
        raise DataError(msg)
    empty = [name for label, name in enumerate(class_names) if not usable[label]]
    if empty:
        shown = ", ".join(empty[:_SHOWN]) + (", …" if len(empty) > _SHOWN else "")
        _log.warning("%s: no image in %d class(es): %s", where, len(empty), shown)
    return entries
