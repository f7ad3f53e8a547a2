"""What a source is: entries that are cheap to list, and an image for each that is made on demand.

Whatever the source, only entries are ever held all at once, about 200 bytes each. Splits and
orders are made of them alone, and images pass by one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sid2core.data.errors import DataError, Unusable


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled image by name, without its pixels."""

    key: str
    """Unique within the source and stable over time: split and order hang on it."""
    label: int
    """Index into the source's ``class_names``."""


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled image."""

    key: str
    image: NDArray[np.uint8]
    """Raw values [h, w, c] or [f, h, w, c]."""
    label: int


class Source(Protocol):
    """A set of labelled images in a fixed order."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label, in label order."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every image, channels last."""
        ...

    @property
    def decoding(self) -> Mapping[str, str]:
        """How images come from files, for the manifest; empty where there are no files."""
        ...

    def index(self) -> Sequence[Entry]:
        """All entries, decoding nothing; each call gives the same ones in the same order."""
        ...

    def image(self, entry: Entry) -> NDArray[np.uint8]:
        """The image of one entry, a new array at each call.

        Raises:
            Unusable: there is no image of that shape to be had; the reason goes into the rejects.
        """
        ...


def listed(source: Source) -> list[Entry]:
    """All entries of ``source``, checked.

    Raises:
        DataError: there are none, a key comes twice, or a label names no class.
    """
    entries = list(source.index())
    if not entries:
        msg = f"{source!r} lists no image; choose another data.source"
        raise DataError(msg)
    classes, seen = len(source.class_names), set[str]()
    for entry in entries:
        if entry.key in seen:
            msg = f"key {entry.key} comes twice; a source must give each image its own"
            raise DataError(msg)
        if not 0 <= entry.label < classes:
            msg = f"{entry.key} has label {entry.label}; expected 0 to {classes - 1}"
            raise DataError(msg)
        seen.add(entry.key)
    return entries


def loaded(source: Source, entry: Entry) -> Record:
    """One entry of ``source`` with its image, checked.

    Raises:
        DataError: the image is not uint8 of the shape that the source promised.
        Unusable: as :meth:`Source.image`, or the key is no text that a shard could hold.
    """
    if not is_text(entry.key):
        msg = "its name is not UTF-8: rename it"
        raise Unusable(msg)
    image = source.image(entry)
    if image.dtype != np.uint8 or image.shape != source.shape:
        msg = (
            f"{entry.key} is {image.dtype} of shape {image.shape}; expected uint8 of shape "
            f"{source.shape}, channels last: convert or resize it in the source"
        )
        raise DataError(msg)
    return Record(entry.key, image, entry.label)


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; Python lets others through with stray surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
