"""The built-in source of any size: drawn shapes in colour, without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sid2core import conditioning, config
from sid2core.config.data import Shapes as ShapesSettings
from sid2core.data.sources import scenes
from sid2core.data.sources.protocol import Content, Entry

_PREFIX = "shapes/"
_SEED = 0
_RATE = 8
"""Frames a second; shapes move by at most one half of the canvas a second."""


@dataclass(frozen=True)
class Shapes:
    """The first ``count`` scenes of one world, drawn at any size; the class is the shape.

    With ``frames`` each is a clip, of which the first frame is the picture that is drawn without.

    A share ``unseen_pairs`` of the pairs (shape, colour) is in the eval split alone. ``spread``
    multiplies the shapes' distances from the middle.

    What a key shows is the same at every size and count, so splits agree between sizes.
    """

    count: int
    height: int
    width: int
    unseen_pairs: float = 0.0
    unlabelled: bool = False
    frames: int | None = None
    spread: float = 1.0
    captioned: bool = True
    fixed: bool = True
    grouped: bool = False

    @classmethod
    def of(cls, settings: ShapesSettings, *, data: config.Data, part: str) -> Shapes:
        """As many as ``settings`` say, of ``data.image_size``."""
        assert data.sides is not None  # config.Data has checked it
        unseen, frames = settings.unseen_pairs, settings.frames
        spread = settings.spread
        return cls(settings.count, *data.sides, unseen, data.unlabelled, frames, spread)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What is drawn."""
        return conditioning.UNLABELLED if self.unlabelled else tuple(scenes.SHAPES)

    @property
    def shape(self) -> tuple[int, ...]:
        """[height, width, 3], or [frames, height, width, 3]."""
        image = (self.height, self.width, 3)
        return image if self.frames is None else (self.frames, *image)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Nothing: there are no files."""
        return {}

    @property
    def attributes(self) -> Mapping[str, Sequence[str]]:
        """What captions ask for."""
        return scenes.ATTRIBUTES

    def stamp(self) -> str:
        """How many there are; what is drawn never changes, and the parameters say all else."""
        return f"shapes/{self.count}"

    def index(self) -> list[Entry]:
        """All scenes, with keys ``shapes/0000000`` and so on, the shapes in turn."""
        classes = len(self.class_names)
        unseen = set(scenes.some_pairs(_SEED, self.unseen_pairs))
        return [
            Entry(
                f"{_PREFIX}{index:07d}",
                index % classes,
                split="eval" if unseen and scenes.pair(_SEED, index) in unseen else None,
            )
            for index in range(self.count)
        ]

    def read(self, entry: Entry) -> Content:
        """One picture or clip, its caption and its attributes."""
        scene = scenes.scene(_SEED, int(entry.key.removeprefix(_PREFIX))).within(self.spread)
        drawn = [
            scene.draw(self.height, self.width, frame / _RATE) for frame in range(self.frames or 1)
        ]
        image = drawn[0] if self.frames is None else np.stack(drawn)
        return Content(image, (self.width, self.height), (scene.caption,), scene.attributes)
