"""The kinds of condition: how each is read, dropped and embedded; a class and a row of KINDS each.

:func:`register` adds a kind from outside the package.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sid2core.conditioning.condition import Given, Text
from sid2core.errors import Sid2Error

UNLABELLED = ("unlabelled",)
"""The class names of prepared data that have no classes; every stored label is 0."""


class ConditionError(Sid2Error):
    """A condition is missing, superfluous or unknown."""


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


_Kind = TypeVar("_Kind", bound="ConditionKind")


@dataclass(frozen=True)
class ConditionKind(ABC):
    """One kind of condition with its settings; subclasses are frozen dataclasses of JSON values.

    A value is a pytree of arrays [b, …].
    """

    name: ClassVar[str]
    """The key in specifications and in :class:`Condition`."""

    @classmethod
    @abstractmethod
    def of_data(cls, metadata: Mapping[str, Any]) -> ConditionKind | None:
        """The kind as prepared data have it, from the manifest's metadata; None if they lack it."""

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
    def from_json(cls: type[_Kind], value: Mapping[str, Any]) -> _Kind:
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
    def of_data(cls, metadata: Mapping[str, Any]) -> LabelKind | None:
        """All the classes that the data have."""
        names = tuple(metadata["class_names"])
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

    def balanced(self, count: int) -> NDArray[np.int32]:
        """0, 1, …, k − 1, 0, 1, …: every class as often as any other, to within one."""
        return np.arange(count, dtype=np.int32) % self.classes

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
    def of_data(cls, metadata: Mapping[str, Any]) -> TextKind | None:
        """None: prepared data hold captions, not token vectors."""
        del metadata
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
    def of_data(cls, metadata: Mapping[str, Any]) -> GivenKind | None:
        """None: how many frames are given is chosen for a model."""
        del metadata
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
