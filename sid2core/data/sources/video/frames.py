"""The source of video that was extracted beforehand: a folder a clip, with its frames as images."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from sid2core import config
from sid2core.config.data import Frames as FramesSettings
from sid2core.data.decode.decoding import Decoded, Recipe
from sid2core.data.errors import Unusable
from sid2core.data.sources import classes, split_names
from sid2core.data.sources.fields import Asked
from sid2core.data.sources.folders import images_among, natural, planted
from sid2core.data.sources.protocol import Content, Entry, is_text, key_of
from sid2core.data.storage import paths
from sid2core.data.storage.trees import ROOT, Item, Tree


@dataclass(frozen=True)
class Frames(Decoded):
    """Clips as ``<class>/<clip>/<frame image>``; the key is ``<class>/<clip>``.

    A record is frames 0, stride, 2 stride and so on of the clip, in natural order of their names
    (``frame9`` before ``frame10``); whatever follows the last one is not read. Of folders and
    addresses only the frames of one clip are listed at a time.
    """

    tree: Tree
    recipe: Recipe
    parameter: str
    frames: int
    stride: int
    asked: Asked = Asked()
    captioned: bool = False
    fixed: bool = False
    grouped: bool = False

    @classmethod
    def of(cls, settings: FramesSettings, *, data: config.Data, part: str) -> Frames:
        """The source ``frames``: the tree at the parameter ``part``."""
        key = key_of(data.source.name, part)
        tree = planted(getattr(settings, part), key, "<class>/<clip>/<frame image>")
        recipe, asked = Recipe.of(data), Asked.by(data)
        return cls(tree, recipe, key, settings.frames, settings.frame_stride, asked)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The class folders' names, sorted."""
        if self.asked.unlabelled:
            return (classes.UNLABELLED,)
        found = self.tree.scan(ROOT)
        return classes.of_folders(
            item.name for item in found if item.is_folder and is_text(item.name)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """[f, h, w, c] as the parameters have it."""
        return (self.frames, *self.recipe.shape)

    def index(self) -> list[Entry]:
        """Every clip's folder, class by class, sorted by name; loose files are set aside."""
        numbers, entries = classes.numbers(self.class_names), []
        where = f"{self.parameter} {self.tree.root}"
        split_names.check_folders(
            [item.name for item in self.tree.scan(ROOT) if item.is_folder],
            lambda name: paths.join(self.tree.root, name),
            where,
            self.parameter,
        )
        for top in self.tree.scan(ROOT):
            for item in self.tree.scan(top) if top.is_folder else [top]:
                problem = None if item.is_folder else item.problem or "it lies in no clip's folder"
                name = classes.UNLABELLED if self.asked.unlabelled else classes.normal(top.name)
                label = numbers.get(name, -1) if top.is_folder else -1
                entries.append(Entry(item.path, label, item.place, problem=problem))
        cure = "give each clip a folder, or set data.source.name to folder for single images"
        layout = "<class>/<clip>/<frame image>"
        return classes.settled(entries, self.class_names, where, layout, cure)

    def stamp(self) -> str:
        """Of all names, sizes and times; of an archive, its own."""
        return self.tree.stamp()

    def read(self, entry: Entry) -> Content:
        """One clip [f, h, w, c]; frames are decoded by :mod:`sid2core.data.decode.decoding`."""
        found = self.tree.scan(Item(entry.key, entry.place, is_folder=True))
        images = images_among(found)
        needed = (self.frames - 1) * self.stride + 1
        if len(images) < needed:
            msg = f"{len(images)} frame(s); {self.frames} at stride {self.stride} need {needed}"
            raise Unusable(msg)
        images.sort(key=lambda item: natural(item.name))
        frames = [self._frame(item) for item in images[: needed : self.stride]]
        return Content(np.stack([frame.image for frame in frames]), frames[0].size)

    def _frame(self, item: Item) -> Content:
        try:
            if item.problem is not None:
                raise Unusable(item.problem)
            with self.tree.open(item.path, item.place) as file:
                return self.recipe.image(file)
        except Unusable as error:
            msg = f"frame {item.name}: {error}"
            raise Unusable(msg) from None
