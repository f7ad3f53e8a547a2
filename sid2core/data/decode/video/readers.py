"""What reads the frames of a video; animated pictures by Pillow."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Protocol, runtime_checkable

from sid2core.data.decode import formats
from sid2core.data.decode.decoding import Recipe, blaming_the_file
from sid2core.data.errors import Unusable

_MILLISECONDS = 100
"""Of a picture in an animation that states no duration, as browsers have it."""


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

    ``end`` says why the last pass over the frames ended before the end of the file, if it did.
    """

    file: BinaryIO
    recipe: Recipe
    end: str | None = None

    def times(self) -> list[float]:
        """When frames are shown."""
        return [frame.time for frame in self.frames()]

    def frames(self) -> Generator[Frame, None, None]:
        """Frames in their order, up to the first damaged one."""
        self.end = None
        with blaming_the_file():
            image = formats.opened(self.file)
            self.recipe.check(*image.size)
            count = getattr(image, "n_frames", 1)
        milliseconds = 0
        for index in range(count):
            try:
                with blaming_the_file():
                    image.seek(index)
                    image.load()
            except Unusable as error:
                self.end = str(error)
                return
            yield Frame(milliseconds / 1000, lambda: np.asarray(image.convert("RGBA")))
            milliseconds += int(image.info.get("duration") or _MILLISECONDS)
