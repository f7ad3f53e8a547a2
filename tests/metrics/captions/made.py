"""Captioned images for tests, in memory: one colour each, and a caption that names it."""

from dataclasses import dataclass

import numpy as np

from sid2core.data.load.dataset import Dataset
from sid2core.data.load.shards import Layout
from tests.data.stored import InMemory

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 220)}
SHAPES = ("left", "right")
ATTRIBUTES = {"colour": [*COLOURS], "shape": [*SHAPES]}
UNSEEN = ("right", "blue")


@dataclass(eq=False)
class Captioned(InMemory):
    """Row groups with captions and attributes."""

    columns: dict = None

    def column(self, name):
        return self.columns[name]


def dataset(count, pairs=None, several=False, attributes=True, split="train"):
    """Half of an image shows a colour; its caption says which half and which colour."""
    random = np.random.default_rng(count)
    known = pairs or [(shape, colour) for shape in SHAPES for colour in COLOURS]
    images = random.integers(0, 30, (count, 6, 6, 3), dtype=np.uint8)
    columns = {"captions": [], "attributes": []}
    for row in range(count):
        shape, colour = known[row % len(known)]
        half = slice(0, 3) if shape == "left" else slice(3, 6)
        images[row, :, half] += np.uint8(COLOURS[colour])
        captions = [f"{colour} on the {shape}", f"the {shape} is {colour}"]
        columns["captions"].append(captions if several else captions[:1])
        columns["attributes"].append([colour, shape])
    names = tuple(sorted(ATTRIBUTES)) if attributes else ()
    layout = Layout(images.shape[1:], ("unlabelled",), split, True, names)
    labels = np.zeros(count, np.int32)
    return Dataset(Captioned(layout, images, labels, np.array([count], np.int64), columns=columns))
