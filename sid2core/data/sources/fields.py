"""Which field of a data set holds the labels: a column, a JSON key, an extension or an array.

A field that looks like labels and is not used stops the stage, because images that silently become
one class cost a whole training.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sid2core import config
from sid2core.data.errors import DataError
from sid2core.errors import few

LABEL_KEY, IMAGE_KEY, UNLABELLED_KEY = (
    f"data.{key}" for key in ("label_column", "image_column", "unlabelled")
)
CAPTION_KEY, CAPTIONS_KEY = "data.caption_column", "data.captions"
CAPTIONS = ("caption", "captions", "text", "txt", "prompt")
"""Usual names of captions, in order of preference; also in capitals, as LAION's ``TEXT``."""
_LABEL = re.compile(
    r"(^|[_\-. ])(labels?|class(es)?|class_?name|categor(y|ies)|targets?|species|breed|cls|y)"
    r"($|[_\-. ])",
    re.IGNORECASE,
)


class Asked(NamedTuple):
    """The fields that the parameters name; None leaves the choice to the source."""

    image: str | None = None
    label: str | None = None
    unlabelled: bool = False
    captions: bool = True
    """Whether captions are read."""
    caption: tuple[str, ...] = ()
    """The fields of captions; empty chooses."""
    lines: bool = False
    """Whether each line of a text file is a caption."""
    folders: bool = False
    """Whether folders are classes although there are captions."""

    @classmethod
    def by(cls, data: config.Data) -> Asked:
        """Those of the section ``data``."""
        column = data.caption_column
        return cls(
            data.image_column,
            data.label_column,
            data.unlabelled,
            data.captions != "none",
            (column,) if isinstance(column, str) else tuple(column or ()),
            data.caption_lines,
            data.classes == "folders",
        )

    def caption_fields(self, present: Collection[str]) -> tuple[str, ...]:
        """The fields of captions among those ``present``: all that are named, else a usual one."""
        if not self.captions:
            return ()
        if self.caption:
            return tuple(name for name in self.caption if name in present)
        usual = (one for name in CAPTIONS for one in sorted(present) if one.lower() == name)
        return tuple(itertools.islice(usual, 1))


class Fields(NamedTuple):
    """What a source reads its labels from, and what it does not read."""

    label: str | None = None
    ignored: tuple[str, ...] = ()
    spare_classes: bool = False
    """Whether ``class_names`` may contain names that nothing uses, such as those of a filtered set
    of Hugging Face; they are dropped."""


def is_label_like(name: str) -> bool:
    """Whether a field of this name probably holds labels."""
    return _LABEL.search(name) is not None


def label(
    asked: Asked, candidates: Sequence[str], present: Iterable[str], where: str, first: str
) -> str | None:
    """The field of the labels, or None if there is none.

    Args:
        asked: what the parameters name.
        candidates: the fields that look like labels; ``first`` is preferred, else the only one.
        present: all fields.
        where: the parameter and the path, for messages.
        first: the source's usual field.

    Raises:
        DataError: the named field does not exist, or several look like labels.
    """
    if asked.unlabelled:
        return None
    if asked.label is not None:
        require(asked.label, present, where, LABEL_KEY)
        return asked.label
    if first in candidates:
        return first
    if len(candidates) > 1:
        msg = f"{where} has {len(candidates)} fields that look like labels ({few(candidates)}): "
        msg += f"set {LABEL_KEY} to one of them, or {UNLABELLED_KEY} to true"
        raise DataError(msg)
    return candidates[0] if candidates else None


def require(name: str, present: Iterable[str], where: str, key: str) -> None:
    """Check that a field named by the parameters exists.

    Raises:
        DataError: it does not.
    """
    found = list(present)
    if name not in found:
        msg = f"{where} has no field {name!r}; found {few(found, 12) or 'none'}: correct {key}"
        raise DataError(msg)


def unused(what: str, where: str, cure: str) -> DataError:
    """The error for labels that exist and would not be used."""
    return DataError(f"{where}: {what}: {cure}, or set {UNLABELLED_KEY} to true")
