"""A split of prepared images, whole in memory: reading shards ends where this begins.

What fits is what the machine's memory holds: n · h · w · c bytes for images and f times that for
clips, 250 GB for ImageNet at 256 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core.artifact import Artifact
from sid2core.data import shards
from sid2core.data.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one split, in shard order; the arrays are read-only."""

    split: str
    class_names: tuple[str, ...]
    images: NDArray[np.uint8]
    """Raw values [n, h, w, c], or [n, f, h, w, c] of clips."""
    labels: NDArray[np.int32]
    """Class indices [n]."""
    keys: tuple[str, ...]

    @classmethod
    def open(cls, prepare: Artifact, split: str) -> Dataset:
        """Read the split ``split`` of the artifact that ``prepare`` wrote, all of it.

        Raises:
            DataError: the artifact has no such split, or a shard differs from what it says.
        """
        splits = prepare.facts["splits"]
        if split not in splits:
            msg = f"{prepare.folder} has no split {split!r}; it has {', '.join(splits)}"
            raise DataError(msg)
        facts = splits[split]
        layout = shards.Layout(
            tuple(prepare.facts["shape"]), tuple(prepare.facts["class_names"]), split
        )
        rows = shards.read([prepare.path(name) for name in facts["shards"]], layout)
        _check(rows, layout, facts["records"], str(prepare.folder))
        rows.images.setflags(write=False)
        rows.labels.setflags(write=False)
        return cls(split, layout.class_names, rows.images, rows.labels, rows.keys)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image or clip, channels last."""
        return self.images.shape[1:]

    @property
    def num_classes(self) -> int:
        """How many classes labels may name."""
        return len(self.class_names)

    def __len__(self) -> int:
        """How many images."""
        return len(self.images)


def _check(rows: shards.Rows, layout: shards.Layout, records: int, origin: str) -> None:
    cure = "run `dvc repro --force prepare` to write it again"
    if len(rows.keys) != records or not records:
        msg = (
            f"{origin} has {len(rows.keys)} {layout.split} images, its facts say {records}; {cure}"
        )
        raise DataError(msg)
    low, high, classes = rows.labels.min(), rows.labels.max(), len(layout.class_names)
    if low < 0 or high >= classes:
        msg = f"{origin} has labels {low} to {high}; {classes} classes need 0 to {classes - 1}"
        raise DataError(f"{msg}; {cure}")
