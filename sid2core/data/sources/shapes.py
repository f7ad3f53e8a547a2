"""The built-in source of any size: drawn shapes in colour, without a download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sid2core import config
from sid2core.config.data import Shapes as ShapesSettings
from sid2core.data.sources import scenes
from sid2core.data.sources.protocol import Content, Entry

_PREFIX = "shapes/"
_SEED = 0


@dataclass(frozen=True)
class Shapes:
    """The first ``count`` scenes of one world, drawn at any size; the class is the shape.

    What a key shows is the same at every size and count, so splits agree between sizes.
    """

    count: int
    height: int
    width: int
    captioned: bool = True
    fixed: bool = True
    grouped: bool = False

    @classmethod
    def of(cls, settings: ShapesSettings, *, data: config.Data, part: str) -> Shapes:
        """As many as ``settings`` say, of ``data.image_size``."""
        assert data.sides is not None  # config.Data has checked it
        return cls(settings.count, *data.sides)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What is drawn."""
        return tuple(scenes.SHAPES)

    @property
    def shape(self) -> tuple[int, ...]:
        """[height, width, 3]."""
        return (self.height, self.width, 3)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Nothing: there are no files."""
        return {}

    def stamp(self) -> str:
        """How many there are; what is drawn never changes."""
        return f"shapes/{self.count}"

    def index(self) -> list[Entry]:
        """All scenes, with keys ``shapes/0000000`` and so on, the shapes in turn."""
        classes = len(self.class_names)
        return [Entry(f"{_PREFIX}{index:07d}", index % classes) for index in range(self.count)]

    def read(self, entry: Entry) -> Content:
        """One picture [height, width, 3] and its caption."""
        scene = scenes.scene(_SEED, int(entry.key.removeprefix(_PREFIX)))
        image = scene.draw(self.height, self.width)
        return Content(image, (self.width, self.height), (scene.caption,))
