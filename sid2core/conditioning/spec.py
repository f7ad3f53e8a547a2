"""Which kinds of condition a data set has or a model takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core.conditioning.condition import Condition, taken
from sid2core.conditioning.kinds import (
    KINDS,
    ConditionError,
    ConditionKind,
    GivenKind,
    LabelKind,
    Records,
    TextKind,
)

_READ = 256
"""Records read at once."""
_GRID_ROWS = 8
"""Rows of a grid of samples whose conditions cannot be counted."""


@dataclass(frozen=True)
class ConditionSpec:
    """Which kinds of condition a data set has, or a model takes; false without any."""

    kinds: tuple[ConditionKind, ...] = ()

    @classmethod
    def of_classes(cls, classes: int, names: Sequence[str] = ()) -> ConditionSpec:
        """Class labels alone."""
        return cls((LabelKind(classes, tuple(names)),))

    @classmethod
    def of_data(cls, metadata: Mapping[str, Any]) -> ConditionSpec:
        """All kinds that prepared data have, from the manifest's metadata."""
        found = (kind.of_data(metadata) for kind in KINDS.values())
        return cls(tuple(kind for kind in found if kind is not None))

    @classmethod
    def of_manifest(cls, metadata: Mapping[str, Any]) -> ConditionSpec:
        """The specification in the metadata of ``prepare``; class labels if it has none.

        Raises:
            ConditionError: as :meth:`from_json` does.
        """
        if "condition" in metadata:
            return cls.from_json(metadata["condition"])
        return cls.of_classes(len(metadata["class_names"]), metadata["class_names"])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConditionSpec:
        """What :meth:`to_json` made.

        Raises:
            ConditionError: a kind is unknown, or its settings are not its own.
        """
        kinds = []
        for name, settings in value.items():
            if name not in KINDS:
                msg = (
                    f"condition kind {name!r} is unknown; known are {', '.join(KINDS)}: name the "
                    "module that registers it in plugins, or import that module"
                )
                raise ConditionError(msg)
            try:
                kinds.append(KINDS[name].from_json(settings))
            except TypeError as error:
                msg = f"condition kind {name!r}: its settings do not fit ({error})"
                raise ConditionError(msg) from None
        return cls(tuple(kinds))

    def to_json(self) -> dict[str, Any]:
        """Settings by kind, JSON values."""
        return {kind.name: kind.to_json() for kind in self.kinds}

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __str__(self) -> str:
        return ", ".join(map(str, self.kinds)) or "none"

    def __contains__(self, name: str) -> bool:
        return any(kind.name == name for kind in self.kinds)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the kinds."""
        return tuple(kind.name for kind in self.kinds)

    @property
    def label(self) -> LabelKind | None:
        """The classes, if there are any."""
        return next((kind for kind in self.kinds if isinstance(kind, LabelKind)), None)

    @property
    def classes(self) -> int | None:
        """How many classes there are, if there are any."""
        return None if self.label is None else self.label.classes

    @property
    def text(self) -> TextKind | None:
        """The text, if there is any."""
        return next((kind for kind in self.kinds if isinstance(kind, TextKind)), None)

    @property
    def given(self) -> GivenKind | None:
        """The given frames, if there are any."""
        return next((kind for kind in self.kinds if isinstance(kind, GivenKind)), None)

    def with_text(self, kind: TextKind | None) -> ConditionSpec:
        """The same with ``kind`` as the only text, or without text; the order is that of KINDS."""
        kinds = {one.name: one for one in self.kinds if not isinstance(one, TextKind)}
        if kind is not None:
            kinds[kind.name] = kind
        return ConditionSpec(tuple(kinds[name] for name in KINDS if name in kinds))

    def with_given(self, frames: int, shape: tuple[int, ...]) -> ConditionSpec:
        """The same with the first ``frames`` of a clip of ``shape`` given; 0 is without.

        Raises:
            ConditionError: examples are no clips, or no frame would be left to predict.
        """
        kinds = {one.name: one for one in self.kinds if not isinstance(one, GivenKind)}
        if frames:
            if len(shape) != 4:
                msg = f"data.given_frames: found {frames}; examples are images: set it to 0"
                raise ConditionError(msg)
            total, height, width, channels = shape
            if frames >= total:
                msg = f"data.given_frames: found {frames}; expected less than the {total} frames"
                raise ConditionError(f"{msg} of a clip: lower it, or use longer clips")
            kinds[GivenKind.name] = GivenKind((frames, height, width, channels))
        return ConditionSpec(tuple(kinds[name] for name in KINDS if name in kinds))

    def modelled(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what is modelled of an example of ``shape``: without the given frames."""
        if self.given is None:
            return tuple(shape)
        return (shape[0] - self.given.shape[0], *shape[1:])

    def null(self, count: int) -> Condition:
        """The condition of ``count`` examples that says nothing."""
        return Condition.of({kind.name: kind.null(count) for kind in self.kinds})

    def dropped(
        self,
        condition: Condition,
        key: Any,
        rate: float,
        count: int,
        given_rate: float | None = None,
    ) -> Condition:
        """The condition with kinds of an example dropped where u < rate, u uniform on [0, 1).

        An example has one u for all its kinds, so the more often dropped kind is always dropped
        where the other is: all are dropped together with the smaller rate.

        Args:
            condition: of ``count`` examples.
            key: of u.
            rate: the probability.
            count: how many examples.
            given_rate: the probability for given frames; None is ``rate``.
        """
        import jax

        if not self:
            return condition
        u, values = jax.random.uniform(key, (count,)), condition.values
        rates = {GivenKind.name: rate if given_rate is None else given_rate}
        return Condition.of(
            {
                kind.name: kind.dropped(values[kind.name], u < rates.get(kind.name, rate))
                for kind in self.kinds
            }
        )

    def read(
        self,
        records: Records,
        rows: NDArray[np.int64],
        examples: NDArray[np.uint8],
        words: NDArray[np.uint64] | None = None,
    ) -> tuple[NDArray[np.uint8], Condition]:
        """The batch (examples, condition) of stored ``rows``, on the host.

        Args:
            records: the split.
            rows: which records.
            examples: their stored pixels, augmented or not.
            words: 64 random bits for each row, which choose one of its captions; without them it
                is the first.
        """
        values, chosen = {}, np.zeros(len(rows), np.uint64) if words is None else words
        for kind in self.kinds:
            examples, values[kind.name] = kind.read(records, rows, examples, chosen)
        return examples, Condition.of(values)

    def asked(
        self, count: int, records: Records | None = None, seed: int | None = None
    ) -> Condition:
        """The conditions of ``count`` samples that stand for the data, on the host.

        With classes alone: 0, 1, …, k − 1, 0, 1 and so on; with a seed, sample i's class is drawn
        from (seed, i), as often as the records have it. With other kinds: those of the records in
        stored order, again and again, or of drawn records; so the kinds of one sample fit. With
        text or given frames: those of :func:`captioned`.

        Args:
            count: how many.
            records: the data; classes in turn need none.
            seed: of drawn conditions.

        Raises:
            ConditionError: records are needed.
        """
        if not self:
            return Condition()
        label = self.label if len(self.kinds) == 1 else None
        if label is not None and seed is None:
            return Condition(label=label.balanced(count))
        if records is None:
            msg = f"the model is conditioned on {self}; give a condition of each kind"
            raise ConditionError(msg)
        if label is not None:
            frequencies = np.bincount(records.labels, minlength=label.classes)
            return Condition(label=_drawn(seed or 0, count, frequencies))
        if self.shuffled:
            return self.of_rows(records, *captioned(count, len(records), seed or 0))
        rows = np.arange(count) % len(records)
        if seed is not None:
            rows = _drawn(seed, count, np.ones(len(records), int)).astype(np.int64)
        return self.of_rows(records, rows)

    def grid(
        self, columns: int, records: Records | None = None, seed: int | None = None
    ) -> Condition:
        """The conditions of a grid of samples, row by row: :attr:`rows` rows of ``columns``.

        Raises:
            ConditionError: records are needed.
        """
        return taken(self.asked(self.rows, records, seed), np.arange(self.rows).repeat(columns))

    def of_rows(
        self,
        records: Records,
        rows: NDArray[np.int64],
        words: NDArray[np.uint64] | None = None,
    ) -> Condition:
        """The conditions of stored ``rows``, on the host; pixels are read only where a kind may.

        ``words`` choose captions, as in :meth:`read`.
        """
        import jax

        if set(self.names) <= {LabelKind.name, TextKind.name}:
            return self.read(records, rows, np.zeros((len(rows), 0), np.uint8), words)[1]
        chosen = np.zeros(len(rows), np.uint64) if words is None else words
        parts = [
            self.read(records, rows[part], records.take(rows[part]), chosen[part])[1]
            for part in np.split(np.arange(len(rows)), range(_READ, len(rows), _READ))
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    @property
    def shuffled(self) -> bool:
        """Whether samples have the conditions of records in shuffled order, text or frames."""
        return self.text is not None or self.given is not None

    @property
    def rows(self) -> int:
        """Different conditions that a grid of samples shows, one a row."""
        if not self:
            return 1
        counted = self.kinds[0].distinct if len(self.kinds) == 1 else None
        return _GRID_ROWS if counted is None else counted

    def check(self, condition: Condition) -> None:
        """Refuse a condition of other kinds, as what a network is given.

        Raises:
            ConditionError: a kind is missing or superfluous.
        """
        found, expected = set(condition.values), set(self.names)
        takes = ", ".join(self.names) or "none: the model is unconditional"
        for name in sorted(expected - found):
            msg = f"the condition lacks {name}; the model takes {takes}"
            raise ConditionError(msg)
        for name in sorted(found - expected):
            msg = f"the condition has {name}, which the model does not take; it takes {takes}"
            raise ConditionError(msg)


def captioned(count: int, records: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The record whose condition a sample has, and the word that chooses one of its captions.

    Both are functions of (seed, index): the records are shuffled, and each is taken once before
    any is taken again.
    """
    from sid2core import rng

    order = np.asarray(rng.permutation(seed, "captions", records), np.int64)
    return order[np.arange(count) % records], words(seed, "captions", np.arange(count))


def words(seed: int, name: str, indices: NDArray[np.integer]) -> NDArray[np.uint64]:
    """64 random bits for each index, from (seed, name, index): SplitMix64.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    z = np.uint64(int.from_bytes(digest[:8], "little")) + (
        np.asarray(indices).astype(np.uint64) + np.uint64(1)
    ) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _drawn(seed: int, count: int, frequencies: NDArray[np.integer]) -> NDArray[np.int32]:
    """Index i is drawn from (seed, i) with probabilities in proportion to ``frequencies``."""
    import jax

    from sid2core import rng

    keys = rng.keys(rng.key(seed, "labels"), np.arange(count))
    uniform = np.asarray(jax.vmap(jax.random.uniform)(keys), np.float64)
    ends = np.cumsum(frequencies) / np.sum(frequencies)
    return np.searchsorted(ends, uniform, side="right").astype(np.int32)
