"""What reads the frames of a video; animated pictures by Pillow."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from typing_extensions import Protocol, runtime_checkable

from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Recipe, blaming_the_file
from sid2core.data.errors import Unusable

_MILLISECONDS = 100
"""Of a picture in an animation that states no duration, as browsers have it."""
_MOST = 100_000
"""Frames of an animation, equal ones counted."""


class Frame(NamedTuple):
    """One frame of a video; it is converted only if ``pixels`` is called."""

    time: float
    """When it is shown, in seconds."""
    pixels: Callable[[], NDArray[np.uint8]]
    """Makes upright pixels [h, w, 3 or 4 (RGBA)]."""


@runtime_checkable
class Reader(Protocol):
    """The frames of one file; each pass begins anew."""

    end: str | None
    """Why the last pass over the frames ended before the end of the file, if it did."""

    def times(self) -> list[float]:
        """When frames are shown, as far as that is known; nothing if it is not."""
        ...

    def frames(self) -> Generator[Frame, None, None]:
        """Frames in the order in which they are shown, up to the first damaged one."""
        ...


@dataclass
class Animation:
    """An animated picture (GIF, WebP, APNG) by Pillow, which composes its frames.

    Where all frames last whole multiples of the shortest time, a longer one is that many equal
    frames, which encoders store as one; the last frame too.
    ``end`` says why the last pass over the frames ended before the end of the file, if it did.
    """

    file: BinaryIO
    recipe: Recipe
    end: str | None = None
    _shown: list[list[int]] | None = field(default=None, init=False, repr=False)
    """When each frame is shown, in milliseconds."""

    def times(self) -> list[float]:
        """When frames are shown."""
        return [one / 1000 for frame in self._times() for one in frame]

    def frames(self) -> Generator[Frame, None, None]:
        """Frames in their order, up to the first damaged one."""
        times = self._times()
        for image, shown in zip(self._images(), times, strict=False):
            for one in shown:
                yield Frame(one / 1000, partial(_rgba, image))

    def _times(self) -> list[list[int]]:
        if self._shown is None:
            lasting = [int(one.info.get("duration") or _MILLISECONDS) for one in self._images()]
            self._shown = times_of(lasting)
        return self._shown

    def _images(self) -> Generator[ImageFile, None, None]:
        """The file again and again, at one frame after the other."""
        self.end = None
        with blaming_the_file():
            image = formats.opened(self.file)
            self.recipe.check(*image.size)
            count = getattr(image, "n_frames", 1)
        for index in range(count):
            try:
                with blaming_the_file():
                    image.seek(index)
                    image.load()
            except Unusable as error:
                self.end = str(error)
                return
            yield image


def _rgba(image: ImageFile) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGBA"))


def times_of(lasting: Sequence[int]) -> list[list[int]]:
    """The times at which each frame is shown, in milliseconds, of how long each lasts [n]."""
    shortest, total = min(lasting, default=1), sum(lasting)
    counts = [round(one / shortest) for one in lasting]
    even = all(
        abs(one - count * shortest) <= count for one, count in zip(lasting, counts, strict=True)
    )
    if not even or total > _MOST * shortest:
        counts = [1] * len(lasting)
    starts = accumulate(lasting, initial=0)
    return [
        [start + index * shortest for index in range(count)]
        for start, count in zip(starts, counts, strict=False)
    ]
