"""The embedded data set: handwritten digits, without a download."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core import config
from sid2core.data.sources.protocol import Content, Entry

_PREFIX = "digits/"


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits that scikit-learn carries: 8×8, grey, 17 levels.

    image = (255 level + 8) // 16, that is 255 level / 16 rounded to the nearest, halves upward.
    """

    class_names: tuple[str, ...] = tuple("0123456789")
    shape: tuple[int, ...] = (8, 8, 1)
    captioned: bool = False
    fixed: bool = True
    grouped: bool = False

    @classmethod
    def of(cls, settings: config.Section, *, data: config.Data, part: str) -> Digits:
        """The digits, whatever the parameters."""
        return cls()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Nothing: there are no files."""
        return {}

    def stamp(self) -> str:
        """The digits are always the same."""
        return "digits"

    def index(self) -> list[Entry]:
        """All digits, in scikit-learn's order, with keys ``digits/00000`` and so on."""
        _, labels = _digits()
        return [Entry(f"{_PREFIX}{row:05d}", int(label)) for row, label in enumerate(labels)]

    def read(self, entry: Entry) -> Content:
        """One digit [8, 8, 1]."""
        return Content(pixels(int(entry.key.removeprefix(_PREFIX)))[..., None], (8, 8))


def pixels(row: int) -> NDArray[np.uint8]:
    """The digit ``row`` [8, 8]."""
    levels, _ = _digits()
    return ((255 * levels[row] + 8) // 16).astype(np.uint8)


@functools.cache
def _digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Levels [n, 8, 8] and labels [n], a megabyte."""
    from sklearn.datasets import load_digits  # slow to import, and no other source needs it

    digits = load_digits()
    return digits.images.astype(np.int64), digits.target
