"""Where images come from: one class for each source, one row for each in :data:`SOURCES`.

A source alone knows its images' size, channels and classes. Everything after it learns them from
the records and from ``class_names``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sid2core.data.errors import DataError


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled image."""

    key: str
    """Unique within the source and stable over time: the split hangs on it."""
    image: NDArray[np.uint8]
    """Raw values, channels last."""
    label: int
    """Index into the source's ``class_names``."""


class Source(Protocol):
    """A set of labelled images in a fixed order."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label, in label order."""
        ...

    def records(self) -> Iterator[Record]:
        """All records; each call starts anew and gives the same ones."""
        ...


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits that scikit-learn carries: 8×8, grey, 17 levels.

    image = (255 level + 8) // 16, that is 255 level / 16 rounded to the nearest, halves upward.
    """

    class_names: tuple[str, ...] = tuple("0123456789")

    def records(self) -> Iterator[Record]:
        """All digits, in scikit-learn's order, with keys ``digits/00000`` and so on."""
        from sklearn.datasets import load_digits  # slow to import, and no other source needs it

        digits = load_digits()
        levels = digits.images.astype(np.int64)
        images = ((255 * levels + 8) // 16).astype(np.uint8)[..., None]
        for index, (image, label) in enumerate(zip(images, digits.target, strict=True)):
            yield Record(f"digits/{index:05d}", image, int(label))


SOURCES: Mapping[str, Source] = {"digits": Digits()}
"""Each value of ``data.source`` in ``params.yaml``."""


def read(source: Source) -> list[Record]:
    """All records of ``source``, checked.

    Raises:
        DataError: there are none, a key comes twice, a label names no class, or an image is not
            uint8, channels last, of the first image's shape.
    """
    records = list(source.records())
    if not records:
        msg = f"{source!r} yields no record; choose another data.source"
        raise DataError(msg)
    shape, classes, seen = records[0].image.shape, len(source.class_names), set[str]()
    for record in records:
        image = record.image
        if record.key in seen:
            msg = f"key {record.key} comes twice; a source must give each record its own"
            raise DataError(msg)
        if image.dtype != np.uint8 or image.ndim < 3 or image.shape != shape:
            msg = (
                f"{record.key} is {image.dtype} of shape {image.shape}; expected uint8 of shape "
                f"{shape}, channels last, as the first record: convert or resize it in the source"
            )
            raise DataError(msg)
        if not 0 <= record.label < classes:
            msg = f"{record.key} has label {record.label}; expected 0 to {classes - 1}"
            raise DataError(msg)
        seen.add(record.key)
    return records
