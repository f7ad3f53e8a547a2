"""A split of prepared images: labels in memory, images on disk until they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.conditioning import ConditionSpec, Text
from sid2core.config import clip_shape
from sid2core.data.errors import DataError
from sid2core.data.load import reading
from sid2core.data.load.cache import Cache
from sid2core.data.load.reading import RowGroups, Shards
from sid2core.data.load.shards import Layout
from sid2core.data.load.texts import Embed, Texts
from sid2core.pipeline.artifact import Artifact

_CACHE_MIB = 256
"""For those who pass through once; training gives ``runtime.cache_mib``."""
_ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one split, in stored order.

    In memory are 4 bytes a record, and of images the row groups that were used last: at most
    ``cache_mib``, or one row group if that is more.
    """

    groups: RowGroups
    cache_mib: float = _CACHE_MIB
    spec: ConditionSpec | None = None
    """The kinds of condition in the manifest; class labels alone for None."""
    texts: Texts | None = None
    """The tokens of the captions, where they were opened and there are any."""
    clip_frames: int | None = None
    """Of clips, how many frames are read; all for None."""

    @classmethod
    def open(
        cls,
        prepare: Artifact,
        split: str,
        cache_mib: float = _CACHE_MIB,
        text: Artifact | None = None,
        embed: Embed | None = None,
        clip_frames: int | None = None,
    ) -> Dataset:
        """The split ``split`` of the artifact that ``prepare`` wrote.

        Args:
            prepare: the images and labels.
            split: ``train`` or ``eval``.
            cache_mib: of images in memory.
            text: the artifact of the stage ``text``; without it the captions are no condition.
            embed: makes vectors of token ids where ``text`` did not store vectors.
            clip_frames: of clips, how many frames are read (``loader.clip_frames``).

        Raises:
            ParamsError: ``clip_frames`` does not fit the stored shape.
            DataError: the artifact has no such split, or a shard differs from what it says.
            ConditionError: the manifest has a kind of condition that nobody registered.
        """
        metadata, splits = prepare.metadata, prepare.metadata["splits"]
        if split not in splits:
            msg = f"{prepare.folder} has no split {split!r}; it has {', '.join(splits)}"
            raise DataError(msg)
        layout = Layout(
            tuple(metadata["shape"]),
            tuple(metadata["class_names"]),
            split,
            metadata.get("captioned", False),
            tuple(sorted(metadata.get("attributes") or ())),
        )
        names = {prepare.unchecked(name): name for name in splits[split]["shards"]}
        shards = Shards(list(names), layout, lambda path: prepare.path(names[path]))
        _check(shards, splits[split]["records"], str(prepare.folder))
        texts = None if text is None else Texts.open(text, split, len(shards.labels), embed)
        spec = ConditionSpec.of_manifest(metadata).with_text(None if texts is None else texts.kind)
        clip_shape(layout.shape, clip_frames)
        return cls(shards, cache_mib, spec, texts, clip_frames)

    @property
    def split(self) -> str:
        """Its name."""
        return self.groups.layout.split

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.groups.layout.class_names

    @property
    def num_classes(self) -> int:
        """How many classes labels may name."""
        return len(self.class_names)

    @property
    def condition(self) -> ConditionSpec:
        """What the records can be conditioned on."""
        if self.spec is not None:
            return self.spec
        return ConditionSpec.of_classes(self.num_classes, self.class_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image or clip as it is read, channels last."""
        return clip_shape(self.groups.layout.shape, self.clip_frames)

    @property
    def room(self) -> int:
        """How many frames of a stored clip lie beside those that are read."""
        return 0 if self.clip_frames is None else self.groups.layout.shape[0] - self.clip_frames

    @property
    def captioned(self) -> bool:
        """Whether records have the column ``captions``."""
        return self.groups.layout.captioned

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of the attributes, in the order of the column ``attributes``."""
        return self.groups.layout.attributes

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class indices [n], read-only."""
        return self.groups.labels

    @property
    def keys(self) -> tuple[str, ...]:
        """The name of each record, read at each call."""
        return tuple(self.groups.column("key"))

    @property
    def captions(self) -> list[list[str]]:
        """The captions of each record, read anew; the split must be one that has captions."""
        return self.groups.column("captions")

    def column(self, name: str) -> list[Any]:
        """Another stored column of all records, read anew."""
        return self.groups.column(name)

    @property
    def encodes(self) -> bool:
        """Whether the vectors of its captions are computed when they are read."""
        return self.texts is not None and self.texts.embed is not None

    def text(self, rows: NDArray[np.int64], words: NDArray[np.uint64]) -> Text:
        """The tokens of one caption of each of ``rows``, chosen by its random word.

        Raises:
            DataError: the captions were not opened, or there are none.
        """
        if self.texts is None:
            msg = "the captions of this data set are not open; pass the artifact of `text`"
            raise DataError(msg)
        return self.texts.tokens(self.texts.numbers(rows, words))

    @property
    def images(self) -> NDArray[np.uint8]:
        """All of them at once, read anew: for sets that are known to be small."""
        return self.take(np.arange(len(self)))

    def __len__(self) -> int:
        """How many images."""
        return len(self.labels)

    def take(
        self, rows: ArrayLike, *, together: bool = False, starts: NDArray[np.int64] | None = None
    ) -> NDArray[np.uint8]:
        """A new array of the images ``rows``, [k, h, w, c] or [k, f, h, w, c].

        It is quickest where rows of one row group stand together.

        Args:
            rows: which, in any order.
            together: let the cache hold all their row groups at once, however small it is meant to
                be, since the next call will need most of them again.
            starts: the first frame to read of each clip, at most :attr:`room`; 0 for None.

        Raises:
            IndexError: there is no such row.
            DataError: a shard cannot be read.
        """
        asked = np.asarray(rows, np.int64)
        if len(asked) and not 0 <= asked.min() <= asked.max() < len(self):
            msg = f"rows {asked.min()} to {asked.max()} asked for; there are 0 to {len(self) - 1}"
            raise IndexError(msg)
        groups = np.searchsorted(self._ends, asked, side="right")
        places = asked - (self._ends - self.groups.sizes)[groups]
        changes = np.flatnonzero(np.diff(groups, prepend=-1))
        runs = groups[changes]
        if together:
            self.cache.reserve(np.unique(runs))
        images = _aligned((len(asked), *self.shape))
        bounds = [*changes.tolist(), len(asked)]
        for group, start, stop in zip(runs.tolist(), bounds, bounds[1:], strict=False):
            stored = self.cache[group]
            if self.clip_frames is None:
                # "clip" lets it write straight into `images`; the places are within bounds.
                stored.take(places[start:stop], 0, images[start:stop], "clip")
                continue
            for row in range(start, stop):
                first = 0 if starts is None else starts[row]
                images[row] = stored[places[row], first : first + self.clip_frames]
        return images

    def chunks(self, size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
        """Images and labels in stored order, ``size`` at a time (fewer at last)."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield self.take(rows), self.labels[rows]

    @cached_property
    def cache(self) -> Cache:
        """The row groups in memory."""
        limit = int(self.cache_mib * 2**20)
        return Cache(self.groups.images, reading.nbytes(self.groups), limit)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.groups.sizes)


def _aligned(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Room that begins at a multiple of 64 bytes: XLA on a processor uses it where it is."""
    size = math.prod(shape)
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].reshape(shape)


def _check(shards: Shards, records: int, origin: str) -> None:
    cure = "run `dvc repro --force prepare` to write it again"
    split, labels = shards.layout.split, shards.labels
    if len(labels) != records or not records:
        msg = f"{origin} has {len(labels)} {split} images, its manifest says {records}; {cure}"
        raise DataError(msg)
    low, high, classes = labels.min(), labels.max(), len(shards.layout.class_names)
    if low < 0 or high >= classes:
        msg = f"{origin} has labels {low} to {high}; {classes} classes need 0 to {classes - 1}"
        raise DataError(f"{msg}; {cure}")
