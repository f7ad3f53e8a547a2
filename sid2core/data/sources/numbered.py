"""Numbered folders that only divide many images: those of StyleGAN's and EDM's tools, and of FFHQ.

``dataset_tool.py`` writes ``00000/img00000000.png`` … and the labels into ``dataset.json``:
``{"labels": [["00000/img00000000.png", 6], …]}``, or ``{"labels": null}``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources.classes import normal
from sid2core.data.sources.fields import UNLABELLED_KEY, Fields
from sid2core.data.sources.label_file import LabelFile
from sid2core.data.storage.trees import ROOT, Item, Tree
from sid2core.errors import few

FILE = "dataset.json"
CLASSES_KEY = "data.classes"
_FOLDER = re.compile(r"[0-9]{4,}")
_LAST_NUMBER = re.compile(r"([0-9]+)[^0-9]*$")
_LONGEST = 2**29
"""Bytes of the file at most."""


@dataclass(frozen=True, eq=False)
class Numbered:
    """What ``dataset.json`` in the root of a tree says, read when it is first asked for."""

    tree: Tree
    where: str
    labels_key: str

    def __getstate__(self) -> dict[str, Any]:
        """Without what was read: workers need no labels."""
        return {"tree": self.tree, "where": self.where, "labels_key": self.labels_key}

    @functools.cached_property
    def labels(self) -> LabelFile | None:
        """The class of each image by its path; None without the file, or if it has no labels.

        Raises:
            DataError: the file is not JSON, or its labels are neither numbers nor one-hot.
        """
        pairs = (self._content or {}).get("labels")
        if pairs is None:
            return None
        return LabelFile(self._classes(pairs), Fields(f"labels of {FILE}"))

    @property
    def says_unlabelled(self) -> bool:
        """Whether the file exists and its labels are null."""
        return self._content is not None and self._content["labels"] is None

    def is_file(self, item: Item) -> bool:
        """Whether ``item`` is the file."""
        return item.path == FILE and self._content is not None

    @functools.cached_property
    def _content(self) -> dict[str, Any] | None:
        """The file's content, or None if there is none or it is another program's."""
        item = next((item for item in self.tree.scan(ROOT) if item.path == FILE), None)
        if item is None or item.is_folder or item.problem:
            return None
        try:
            with self.tree.open(item.path, item.place) as file:
                content = json.loads(file.read(_LONGEST))
        except (Unusable, ValueError, RecursionError) as error:
            msg = f"{self.where}: {FILE} cannot be read ({error}); expected the JSON that "
            msg += f"dataset_tool.py writes: repair it, or set {self.labels_key} to a CSV file of "
            raise DataError(f"{msg}name,class and remove {FILE}") from None
        known = isinstance(content, dict) and isinstance(content.get("labels", 0), list | None)
        return content if known else None

    def _classes(self, pairs: list[Any]) -> Mapping[str, str]:
        found = dict[str, str]()
        for pair in pairs:
            name, label = pair if isinstance(pair, list) and len(pair) == 2 else (None, pair)
            number = _number(label)
            if not isinstance(name, str) or number is None:
                msg = f"{self.where}: {FILE} has the label {few([pair])}; expected a file's name "
                msg += f"and the number of a class, or a one-hot list: set {self.labels_key} to a "
                raise DataError(f"{msg}CSV file of name,class, or {UNLABELLED_KEY} to true")
            found[normal(name)] = str(number)
        return found


def may_divide(folders: Iterable[str]) -> bool:
    """Whether there are several folders, and all are numbers of four digits and more."""
    names = list(folders)
    return len(names) > 1 and all(_FOLDER.fullmatch(name) for name in names)


def check_folders(below: Mapping[str, Sequence[Item]], where: str, labels_key: str) -> None:
    """Refuse folders that hold consecutive parts of one numbered sequence of images.

    So do those of FFHQ (``01000/01234.png``) and of ``dataset_tool.py``. Where folders are classes,
    the numbers of images usually begin anew in each.

    Args:
        below: of each folder its images.
        where: the parameter and the path, for messages.
        labels_key: the parameter of a CSV file of labels.

    Raises:
        DataError: they do.
    """
    last, parts = -1, [name for name, items in below.items() if items]
    for name in sorted(parts, key=int):
        matches = [_LAST_NUMBER.search(item.name) for item in below[name]]
        numbers = [int(match[1]) for match in matches if match]
        if len(numbers) < len(matches) or min(numbers) <= last:
            return
        last = max(numbers)
    if len(parts) > 1:
        msg = f"{where} holds folders ({few(parts)}) of one numbered sequence of images, which are "
        msg += (
            f"probably no classes: set {UNLABELLED_KEY} to true or {labels_key} to a CSV file of "
        )
        raise DataError(f"{msg}name,class, or {CLASSES_KEY} to folders if they are classes")


def _number(label: object) -> int | None:
    """The class of a label: a number, or the place of the 1 in a one-hot list."""
    if isinstance(label, list):
        one_hot = sorted(label, key=str) == [*[0] * (len(label) - 1), 1]
        return label.index(1) if one_hot else None
    if isinstance(label, bool) or not isinstance(label, int | float):
        return None
    return int(label) if label == int(label) else None
