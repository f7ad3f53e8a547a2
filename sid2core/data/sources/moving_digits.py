"""The built-in clips: digits that move over a black canvas and bounce off its edges.

The protocol is that of Moving MNIST (Srivastava et al., arXiv 1502.04681) with the digits that come
with scikit-learn: constant speed in a random direction, reflected at the edges; where digits
overlap, the brighter pixel is seen.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core import conditioning, config
from sid2core.config.data import MovingDigits as MovingDigitsSettings
from sid2core.data.sources import digits
from sid2core.data.sources.protocol import Content, Entry

_PREFIX = "moving_digits/"
_SEED = 0
_SIDE = 8
"""Pixels of a digit as it comes."""
_STEP = 0.1
"""Distance of one frame, in units of the distance between two opposite edges."""
_HELD_OUT = 5
"""Every fifth digit is in clips of the eval split alone."""
_DIRECTIONS = ("right down", "left down", "left up", "right up")
"""By the quadrant of the angle; rows count downward."""


@dataclass(frozen=True)
class MovingDigits:
    """The first ``count`` clips of one world, at any size and length; a function of the index.

    Digits are half as large as the shorter side of the canvas, and at least 8 pixels. A class is
    the digit or the direction in which it sets off; of two digits, the pair without its order.
    Classes take turns. A share ``train_fraction`` of each class is for training; the digits of
    eval clips are never trained on.
    """

    count: int
    frames: int
    height: int
    width: int
    digits: int = 1
    classes: str = "digit"
    train_fraction: float = 0.85
    unlabelled: bool = False
    captioned: bool = False
    fixed: bool = True
    grouped: bool = False

    @classmethod
    def of(cls, settings: MovingDigitsSettings, *, data: config.Data, part: str) -> MovingDigits:
        """As ``settings`` say, of ``data.image_size``."""
        assert data.sides is not None  # config.Data has checked it
        sizes = (settings.count, settings.frames, *data.sides)
        kinds = (settings.digits, settings.classes)
        return cls(*sizes, *kinds, data.train_fraction, data.unlabelled)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Digits or directions; of two digits such as ``3 and 7``."""
        if self.unlabelled:
            return conditioning.UNLABELLED
        return tuple(" and ".join(self._singles[one] for one in members) for members in self._sets)

    @property
    def shape(self) -> tuple[int, ...]:
        """[frames, height, width, 1]."""
        return (self.frames, self.height, self.width, 1)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Nothing: there are no files."""
        return {}

    def stamp(self) -> str:
        """How many there are; what moves never changes, and the parameters say all else."""
        return f"moving_digits/{self.count}"

    def index(self) -> list[Entry]:
        """All clips, with keys ``moving_digits/0000000`` and so on, the classes in turn."""
        return [
            Entry(
                f"{_PREFIX}{index:07d}",
                0 if self.unlabelled else index % len(self._sets),
                split="eval" if self._held_out(index) else "train",
            )
            for index in range(self.count)
        ]

    def read(self, entry: Entry) -> Content:
        """One clip [frames, height, width, 1]."""
        index = int(entry.key.removeprefix(_PREFIX))
        words = np.random.Philox(key=np.array([_SEED, index], np.uint64)).random_raw(4 * 2)
        draws = ((words >> np.uint64(11)) * 2.0**-53).reshape(2, 4).tolist()
        clip = np.zeros((self.frames, self.height, self.width), np.uint8)
        members = self._sets[index % len(self._sets)]
        for member, (which, turn, x, y) in zip(members, draws, strict=False):
            by_digit = self.classes == "digit"
            pool = _pool(self._held_out(index), member if by_digit else None)
            angle = math.tau * turn if by_digit else math.tau * (member + turn) / 4
            glyph = _glyph(pool[int(which * len(pool))], self._side)
            tops = self._places(y, math.sin(angle), self.height)
            lefts = self._places(x, math.cos(angle), self.width)
            for frame, top, left in zip(clip, tops, lefts, strict=True):
                part = frame[top : top + self._side, left : left + self._side]
                np.maximum(part, glyph, out=part)
        return Content(clip[..., None], (self.width, self.height))

    @property
    def _side(self) -> int:
        return max(_SIDE, min(self.height, self.width) // 2)

    @property
    def _singles(self) -> tuple[str, ...]:
        return tuple("0123456789") if self.classes == "digit" else _DIRECTIONS

    @functools.cached_property
    def _sets(self) -> tuple[tuple[int, ...], ...]:
        """The digits or directions of each class."""
        return tuple(
            itertools.combinations_with_replacement(range(len(self._singles)), self.digits)
        )

    def _held_out(self, index: int) -> bool:
        """Whether a clip is for evaluation: of each class, a share that never exceeds by one."""
        turn, share = index // len(self._sets), 1 - self.train_fraction
        return math.floor((turn + 1) * share + 0.5) > math.floor(turn * share + 0.5)

    def _places(self, start: float, speed: float, length: int) -> list[int]:
        """A digit's first row or column in each frame: start + 0.1 speed t in [0, 1], reflected."""
        places = (start + _STEP * speed * time for time in range(self.frames))
        room = length - self._side
        return [math.floor((1 - abs(place % 2 - 1)) * room + 0.5) for place in places]


@functools.cache
def _pool(held_out: bool, digit: int | None) -> list[int]:
    """The rows of scikit-learn's digits to choose from; ``digit`` None is any."""
    labels = [entry.label for entry in digits.Digits().index()]
    return [
        row
        for row, label in enumerate(labels)
        if (row % _HELD_OUT == _HELD_OUT - 1) == held_out and digit in (None, label)
    ]


@functools.lru_cache(maxsize=2048)
def _glyph(row: int, side: int) -> NDArray[np.uint8]:
    """A digit [side, side]."""
    image = digits.pixels(row)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
