"""Captioned images for tests, in memory: one colour each, and a caption that names it."""

from dataclasses import dataclass

import numpy as np

from sid2core.data.load.dataset import Dataset
from sid2core.data.load.shards import Layout
from tests.data.stored import InMemory

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 220)}
SHAPES = ("plain", "striped")
ATTRIBUTES = {"colour": [*COLOURS], "shape": [*SHAPES]}
UNSEEN = ("striped", "blue")


@dataclass(eq=False)
class Captioned(InMemory):
    """Row groups with captions and attributes."""

    columns: dict = None

    def column(self, name):
        return self.columns[name]


def dataset(count, pairs=None, several=False, attributes=True, split="train"):
    """An image has a colour, in all columns or in every second; its caption says both."""
    random = np.random.default_rng(count)
    known = pairs or [(shape, colour) for shape in SHAPES for colour in COLOURS]
    images = random.integers(0, 30, (count, 6, 6, 3), dtype=np.uint8)
    columns = {"captions": [], "attributes": []}
    for row in range(count):
        shape, colour = known[row % len(known)]
        images[row, :, :: 1 if shape == "plain" else 2] += np.uint8(COLOURS[colour])
        captions = [f"{shape} {colour}", f"{colour}, {shape}"]
        columns["captions"].append(captions if several else captions[:1])
        columns["attributes"].append([colour, shape])
    names = tuple(sorted(ATTRIBUTES)) if attributes else ()
    layout = Layout(images.shape[1:], ("unlabelled",), split, True, names)
    labels = np.zeros(count, np.int32)
    return Dataset(Captioned(layout, images, labels, np.array([count], np.int64), columns=columns))
