"""What a model is conditioned on: the class, a text, clean frames, and kinds added from outside.

A batch is (examples, condition). A condition is a pytree whose leaves are [b, …]. The sources, the
network and the class metrics look inside; every other module passes it on unopened. Which kinds a
data set has or a model takes is its :class:`ConditionSpec`: JSON in the manifest of ``prepare`` and
in ``config.json``. It makes the null condition, drops conditions for training, and reads them from
prepared records. Without any kind the data are unconditional: the condition has no leaves, and
there is nothing for guidance to push away from.

A kind is one class with a row in :data:`KINDS`. :func:`register` adds one from outside.

Importing this module does not import JAX, because parameter files are checked without it.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sid2core.errors import Sid2Error

if TYPE_CHECKING:
    from sid2core.typing import Array, Bool, Float, Labels, UInt8

UNLABELLED = ("unlabelled",)
"""The class names of prepared data that have no classes; every stored label is 0."""
_GRID_ROWS = 8
"""Rows of a grid of samples whose conditions cannot be counted."""


class ConditionError(Sid2Error):
    """A condition is missing, superfluous or unknown."""


class Text(NamedTuple):
    """Token vectors that attention sees beside the image's own positions."""

    tokens: Float[Array, "b n d"]
    """Vectors of a text encoder."""
    mask: Bool[Array, "b n"]
    """Which tokens are there; an example without any has no text."""


class Given(NamedTuple):
    """Clean frames that come before those to predict."""

    frames: UInt8[Array, "b f h w c"]
    """Raw values, 0 to 255."""
    there: Bool[Array, "b"]
    """False where the example has none."""


class Condition(NamedTuple):
    """What one batch is conditioned on; a field is None where the batch has no such condition."""

    label: Labels | None = None
    text: Text | None = None
    given: Given | None = None
    extra: dict[str, Any] | None = None
    """Values of kinds that :func:`register` added, by name; None if there are none."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Condition:
        """The condition with these values by kind; values of None are left out."""
        there = {name: value for name, value in values.items() if value is not None}
        own = {name: there.pop(name) for name in _OWN if name in there}
        return cls(**own, extra=there or None)

    @property
    def values(self) -> dict[str, Any]:
        """The values by kind, without those that are None."""
        own = {name: getattr(self, name) for name in _OWN}
        return {name: value for name, value in own.items() if value is not None} | (
            self.extra or {}
        )


_OWN = ("label", "text", "given")
"""The kinds that have a field of their own."""


@runtime_checkable
class Records(Protocol):
    """What kinds may read of a prepared split (:class:`sid2core.data.load.dataset.Dataset`)."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class indices of all records, [n]."""
        ...

    def column(self, name: str) -> Sequence[Any]:
        """Another stored column of all records."""
        ...

    def take(self, rows: Any) -> NDArray[np.uint8]:
        """The examples ``rows``."""
        ...

    def __len__(self) -> int:
        """How many records."""
        ...


@dataclass(frozen=True)
class ConditionKind(ABC):
    """One kind of condition with its settings; subclasses are frozen dataclasses of JSON values.

    A value is a pytree of arrays [b, …].
    """

    name: ClassVar[str]
    """The key in specifications and in :class:`Condition`."""

    @classmethod
    @abstractmethod
    def of_data(cls, facts: Mapping[str, Any]) -> Self | None:
        """The kind as prepared data have it, from the manifest's facts; None where they do not."""

    @abstractmethod
    def read(
        self, records: Records, rows: NDArray[np.int64], examples: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], Any]:
        """The examples that remain to be modelled, and the value of stored ``rows``."""

    @abstractmethod
    def null(self, count: int) -> Any:
        """The value of ``count`` examples without this condition."""

    def dropped(self, value: Any, drop: Any) -> Any:
        """``value`` with the null in the rows where ``drop`` [b] holds."""
        import jax
        import jax.numpy as jnp

        def one(null: Any, own: Any) -> Any:
            return jnp.where(drop.reshape(drop.shape + (1,) * (own.ndim - 1)), null, own)

        return jax.tree.map(one, self.null(len(drop)), value)

    @abstractmethod
    def embedding(self, channels: int, rngs: Any) -> Any:
        """A Flax module from the value to a vector [b, channels], which joins the log-SNR's.

        None for a kind that the network takes in at another place.
        """

    @property
    def weights(self) -> str:
        """Where the embedding's weights are: ``conditioning/<weights>/…``."""
        return self.name

    @property
    def distinct(self) -> int | None:
        """How many different values there are, if they can be counted."""
        return None

    def __str__(self) -> str:
        return repr(self).replace(type(self).__name__, self.name, 1)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` made.

        Raises:
            TypeError: a setting is missing or unknown.
        """
        return cls(
            **{name: tuple(one) if isinstance(one, list) else one for name, one in value.items()}
        )


@dataclass(frozen=True)
class LabelKind(ConditionKind):
    """One of ``classes`` classes; the null is index ``classes``. One learned vector each.

    Attributes:
        classes: how many.
        names: the name of each, if known; does not count in comparisons.
    """

    name: ClassVar[str] = "label"
    classes: int
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of_data(cls, facts: Mapping[str, Any]) -> Self | None:
        """All the classes that the data have."""
        names = tuple(facts["class_names"])
        return None if names == UNLABELLED else cls(len(names), names)

    def read(
        self, records: Records, rows: NDArray[np.int64], examples: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], Any]:
        """The stored labels."""
        return examples, records.labels[rows]

    def null(self, count: int) -> Any:
        """The class after the last."""
        import jax.numpy as jnp

        return jnp.full((count,), self.classes, jnp.int32)

    def embedding(self, channels: int, rngs: Any) -> Any:
        """A table of ``classes`` + 1 rows."""
        from flax import nnx

        return nnx.Embed(
            self.classes + 1, channels, embedding_init=nnx.initializers.normal(1.0), rngs=rngs
        )

    @property
    def weights(self) -> str:
        """As in every weights file that this project has written."""
        return "classes"

    @property
    def distinct(self) -> int:
        """The number of classes."""
        return self.classes

    def index(self, label: int | str) -> int:
        """The index of a class, given by index or by name.

        Raises:
            ConditionError: there is no such class; the nearest name is shown.
        """
        if not isinstance(label, str):
            if 0 <= label < self.classes:
                return int(label)
            msg = f"label: found {label}; expected 0 to {self.classes - 1}, or a class name"
            raise ConditionError(msg)
        if label in self.names:
            return self.names.index(label)
        if not self.names:
            msg = f"label: found {label!r}, but the model has no class names; give 0 to "
            raise ConditionError(f"{msg}{self.classes - 1}")
        near = difflib.get_close_matches(label, self.names, n=1, cutoff=0.0)
        msg = f"label: found {label!r}; the nearest of {self.classes} class names is {near[0]!r}"
        raise ConditionError(msg)


@dataclass(frozen=True)
class TextKind(ConditionKind):
    """``tokens`` vectors of ``channels`` each, keys and values of attention (:class:`Text`).

    The null has no tokens.
    """

    name: ClassVar[str] = "text"
    tokens: int
    channels: int

    @classmethod
    def of_data(cls, facts: Mapping[str, Any]) -> Self | None:
        """None: prepared data hold captions, not token vectors."""
        del facts
        return None

    def read(
        self, records: Records, rows: NDArray[np.int64], examples: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], Any]:
        """The columns ``text_tokens`` and ``text_mask``."""
        tokens = np.asarray(records.column("text_tokens"), np.float32)
        mask = np.asarray(records.column("text_mask"), bool)
        return examples, Text(tokens[rows], mask[rows])

    def null(self, count: int) -> Text:
        """No token is there."""
        import jax.numpy as jnp

        shape = (count, self.tokens, self.channels)
        return Text(jnp.zeros(shape, jnp.float32), jnp.zeros(shape[:2], bool))

    def embedding(self, channels: int, rngs: Any) -> None:
        """None: attention takes the tokens."""
        del channels, rngs


@dataclass(frozen=True)
class GivenKind(ConditionKind):
    """The first frames of a clip; the others are the example (:class:`Given`).

    Attributes:
        shape: of the given frames of one example, [f, h, w, c].
    """

    name: ClassVar[str] = "given"
    shape: tuple[int, int, int, int]

    @classmethod
    def of_data(cls, facts: Mapping[str, Any]) -> Self | None:
        """None: how many frames are given is chosen for a model."""
        del facts
        return None

    def read(
        self, records: Records, rows: NDArray[np.int64], examples: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], Any]:
        """The clip [b, f, h, w, c] in two."""
        del records
        frames = self.shape[0]
        return examples[:, frames:], Given(examples[:, :frames], np.ones(len(rows), bool))

    def null(self, count: int) -> Given:
        """No frame is there."""
        import jax.numpy as jnp

        return Given(jnp.zeros((count, *self.shape), jnp.uint8), jnp.zeros((count,), bool))

    def embedding(self, channels: int, rngs: Any) -> None:
        """None: the network puts the frames before those to predict."""
        del channels, rngs


KINDS: dict[str, type[ConditionKind]] = {
    kind.name: kind for kind in (LabelKind, TextKind, GivenKind)
}
"""Every kind by its name, in the order in which specifications list them."""

_Kind = TypeVar("_Kind", bound=ConditionKind)


def register(kind: type[_Kind]) -> type[_Kind]:
    """Add a kind, as a class decorator; data that have it are then conditioned on it.

    Raises:
        ConditionError: another class has the name.
    """
    known = KINDS.setdefault(kind.name, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        msg = f"condition kind {kind.name!r}: {known.__module__} has registered it; choose another"
        raise ConditionError(f"{msg} name than {kind.__module__} does")
    KINDS[kind.name] = kind
    return kind


@dataclass(frozen=True)
class ConditionSpec:
    """Which kinds of condition a data set has, or a model takes; false without any."""

    kinds: tuple[ConditionKind, ...] = ()

    @classmethod
    def of_classes(cls, classes: int, names: Sequence[str] = ()) -> ConditionSpec:
        """Class labels alone."""
        return cls((LabelKind(classes, tuple(names)),))

    @classmethod
    def of_data(cls, facts: Mapping[str, Any]) -> ConditionSpec:
        """All kinds that prepared data have, from the manifest's facts."""
        found = (kind.of_data(facts) for kind in KINDS.values())
        return cls(tuple(kind for kind in found if kind is not None))

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
    def text(self) -> TextKind | None:
        """The text, if there is any."""
        return next((kind for kind in self.kinds if isinstance(kind, TextKind)), None)

    @property
    def given(self) -> GivenKind | None:
        """The given frames, if there are any."""
        return next((kind for kind in self.kinds if isinstance(kind, GivenKind)), None)

    def only(self, names: Sequence[str] | None) -> ConditionSpec:
        """The same with the kinds ``names`` alone; all of them for None.

        Raises:
            ConditionError: one of them is not there.
        """
        if names is None:
            return self
        missing = [name for name in names if name not in self]
        if missing:
            have = ", ".join(self.names) or "none"
            msg = f"model.condition: found {missing[0]!r}; the data have {have}"
            raise ConditionError(f"{msg}: choose of these, or null for all")
        return ConditionSpec(tuple(kind for kind in self.kinds if kind.name in names))

    def null(self, count: int) -> Condition:
        """The condition of ``count`` examples that says nothing."""
        return Condition.of({kind.name: kind.null(count) for kind in self.kinds})

    def dropped(self, condition: Condition, key: Any, rate: float, count: int) -> Condition:
        """The condition with all kinds of an example dropped together, with probability ``rate``.

        Args:
            condition: of ``count`` examples.
            key: decides which examples lose theirs.
            rate: the probability.
            count: how many examples.
        """
        import jax

        if not self:
            return condition
        drop, values = jax.random.bernoulli(key, rate, (count,)), condition.values
        return Condition.of(
            {kind.name: kind.dropped(values[kind.name], drop) for kind in self.kinds}
        )

    def read(
        self, records: Records, rows: NDArray[np.int64], examples: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], Condition]:
        """The batch (examples, condition) of stored ``rows``, on the host.

        Args:
            records: the split.
            rows: which records.
            examples: their stored pixels, augmented or not.
        """
        values = {}
        for kind in self.kinds:
            examples, values[kind.name] = kind.read(records, rows, examples)
        return examples, Condition.of(values)

    def asked(self, count: int, records: Records | None = None) -> Condition:
        """The conditions of ``count`` samples that stand for the data, on the host.

        With classes alone: 0, 1, …, k − 1, 0, 1 and so on. With other kinds: those of the records
        in stored order, again and again, so that the kinds of one sample fit each other.

        Raises:
            ConditionError: there are other kinds than classes, and no records.
        """
        if not self:
            return Condition()
        if self.names == (LabelKind.name,):
            return Condition(label=np.arange(count, dtype=np.int32) % self.kinds[0].distinct)  # type: ignore[operator]
        if records is None:
            msg = f"the model is conditioned on {', '.join(self.names)}; give a condition of each"
            raise ConditionError(msg)
        rows = np.arange(count) % len(records)
        return self.read(records, rows, records.take(rows))[1]

    @property
    def rows(self) -> int:
        """Different conditions that a grid of samples shows, one a row."""
        if not self:
            return 1
        counted = self.kinds[0].distinct if len(self.kinds) == 1 else None
        return _GRID_ROWS if counted is None else counted

    def check(self, condition: Condition, optional: Sequence[str] = ()) -> None:
        """Refuse a condition of other kinds.

        Args:
            condition: what a network is given.
            optional: kinds that may be there or not.

        Raises:
            ConditionError: a kind is missing or superfluous.
        """
        found, expected = set(condition.values), set(self.names)
        takes = ", ".join(self.names) or "none: the model is unconditional"
        for name in sorted(expected - found - set(optional)):
            msg = f"the condition lacks {name}; the model takes {takes}"
            raise ConditionError(msg)
        for name in sorted(found - expected - set(optional)):
            msg = f"the condition has {name}, which the model does not take; it takes {takes}"
            raise ConditionError(msg)


def concatenated(*conditions: Condition) -> Condition:
    """Conditions of equal kinds as one, along the batch: for several batches in one call."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *conditions)


def taken(condition: Condition, rows: Any) -> Condition:
    """The rows ``rows`` of a condition: an index array or a slice."""
    import jax

    return jax.tree.map(lambda leaf: leaf[rows], condition)
