"""What passed through ``prepare``, in whole numbers: counts of parts add up to the whole's.

Whole numbers add up to the same whatever the order, so that the number of workers, or a kill in
between, changes no figure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sid2core.data import encode
from sid2core.data.sources.protocol import Record
from sid2core.errors import printable

BRIGHTNESS_BINS = 32
"""Of equal width over 0 to 256."""
_LEVELS = np.arange(256, dtype=np.int64)


class Reject(NamedTuple):
    """An image that was set aside; names are printable."""

    split: str
    key: str
    reason: str

    @classmethod
    def of(cls, split: str, key: str, reason: str) -> Reject:
        """With control characters and undecodable bytes escaped."""
        return cls(split, printable(key), printable(reason))


@dataclass
class Tally:
    """Counts of the records of one shard, or of many.

    Attributes:
        per_class: records by label.
        levels: how often each raw value comes, [c, 256]; [0, 256] before the first record.
        brightness: records by their mean raw value, in ``BRIGHTNESS_BINS`` bins.
        short_sides: records by the shorter side of the picture they were made from, in pixels.
        rejects: what was set aside.
        missing: records without a caption.
        digests: of each record a hash of its pixels, of 64 bits.
    """

    per_class: Counter[int] = field(default_factory=Counter)
    levels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 256), np.int64))
    brightness: Counter[int] = field(default_factory=Counter)
    short_sides: Counter[int] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    missing: int = 0
    digests: list[int] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.per_class.total()

    def add(self, record: Record) -> None:
        """Count one record."""
        counts = _histogram(record.image)
        self.levels = counts + self.levels if len(self.levels) else counts
        self.per_class[record.label] += 1
        mean = int((counts @ _LEVELS).sum()) * BRIGHTNESS_BINS // (256 * record.image.size)
        self.brightness[mean] += 1
        self.short_sides[min(record.size)] += 1
        self.missing += not record.captions
        # SHA-1 is the quickest hash here: most processors have instructions for it.
        pixels = np.ascontiguousarray(record.image).data
        digest = hashlib.sha1(pixels, usedforsecurity=False).digest()
        self.digests.append(int.from_bytes(digest[:8]))

    def merge(self, other: Tally) -> None:
        """Add what ``other`` counted."""
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        if other.records:
            self.levels = other.levels + self.levels if len(self.levels) else other.levels
        self.rejects += other.rejects
        self.missing += other.missing
        self.digests += other.digests

    def moments(self) -> dict[str, list[float]]:
        """Mean and standard deviation of raw values, by channel."""
        values = self.levels.sum(axis=1)
        mean = self.levels @ _LEVELS / values
        std = np.sqrt(self.levels @ _LEVELS**2 / values - mean**2)
        return {"mean": mean.round(4).tolist(), "std": std.round(4).tolist()}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        counters = {name: sorted(getattr(self, name).items()) for name in _COUNTERS}
        lists = {"levels": self.levels.tolist(), "rejects": self.rejects, "digests": self.digests}
        return {**counters, **lists, "missing": self.missing}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """The inverse of :meth:`to_json`."""
        return cls(
            **{name: Counter(dict(value[name])) for name in _COUNTERS},
            levels=np.array(value["levels"], np.int64).reshape(-1, 256),
            rejects=[Reject(*reject) for reject in value["rejects"]],
            missing=value["missing"],
            digests=list(value["digests"]),
        )


def copies(train: Tally, evaluation: Tally) -> dict[str, int]:
    """How many images have the same pixels as another one; empty if none has.

    ``repeated_train_images`` equal an earlier one of the train split, ``eval_images_in_train`` one
    of that split.
    """
    known = set(train.digests)
    repeated = len(train.digests) - len(known)
    shared = sum(digest in known for digest in evaluation.digests)
    found = {"repeated_train_images": repeated, "eval_images_in_train": shared}
    return {name: count for name, count in found.items() if count}


_COUNTERS = ("per_class", "brightness", "short_sides")


def _histogram(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value comes, [c, 256]; Pillow counts several times faster than NumPy."""
    *_, width, channels = image.shape
    rows = image.reshape(-1, width, channels)
    return np.array(encode.picture(rows).histogram(), np.int64).reshape(channels, 256)
