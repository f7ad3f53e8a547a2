"""The kinds of condition: how each is read, dropped and embedded; a class and a row of KINDS each.

:func:`register` adds a kind from outside the package.
"""

from __future__ import annotations

import base64
import difflib
import functools
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

    def text(self, rows: NDArray[np.int64], words: NDArray[np.uint64]) -> Text:
        """One caption of each of ``rows``, chosen by its random word."""
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
        self,
        records: Records,
        rows: NDArray[np.int64],
        examples: NDArray[np.uint8],
        words: NDArray[np.uint64],
    ) -> tuple[NDArray[np.uint8], Any]:
        """The examples that remain to be modelled, and the value of stored ``rows``.

        ``words`` are 64 random bits for each row, for records with several values to choose from.
        """

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
        self,
        records: Records,
        rows: NDArray[np.int64],
        examples: NDArray[np.uint8],
        words: NDArray[np.uint64],
    ) -> tuple[NDArray[np.uint8], Any]:
        """The stored labels."""
        del words
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
    """A caption of up to ``tokens`` tokens (:class:`Text`); the null is the empty caption.

    The tokens of a learned encoder are ids, and the encoder is part of the network. Those of a
    frozen encoder are its vectors.

    Attributes:
        encoder: the kind of encoder, as ``text.encoder`` has it.
        tokens: the length to which captions are padded or cut.
        channels: width of the encoder's output.
        dtype: of the stored tokens: ``int32`` of ids; of vectors a half-precision type.
        null_tokens: the tokens of the empty caption, base64 of their bytes.
        vocabulary: number of different ids of a learned encoder.
        depth: blocks of a learned encoder.
        heads: attention heads of a learned encoder.
    """

    name: ClassVar[str] = "text"
    encoder: str
    tokens: int
    channels: int
    dtype: str
    null_tokens: str = field(repr=False)
    vocabulary: int | None = None
    depth: int | None = None
    heads: int | None = None

    @classmethod
    def of(cls, *, null: NDArray[Any], **settings: Any) -> TextKind:
        """The kind whose empty caption has the tokens ``null``: ids [t], or vectors [t, d]."""
        raw = np.ascontiguousarray(null)
        content = base64.b64encode(raw.tobytes()).decode("ascii")
        return cls(dtype=raw.dtype.name, null_tokens=content, **settings)

    @classmethod
    def of_data(cls, metadata: Mapping[str, Any]) -> TextKind | None:
        """None: prepared data hold captions; the artifact of ``text`` holds their tokens."""
        del metadata
        return None

    @property
    def learned(self) -> bool:
        """Whether tokens are ids, which the network's own encoder takes."""
        return self.dtype == "int32"

    def read(
        self,
        records: Records,
        rows: NDArray[np.int64],
        examples: NDArray[np.uint8],
        words: NDArray[np.uint64],
    ) -> tuple[NDArray[np.uint8], Any]:
        """The tokens of one caption of each row."""
        return examples, records.text(rows, words)

    def null(self, count: int) -> Text:
        """The empty caption."""
        import jax.numpy as jnp

        tokens = jnp.asarray(null_tokens(self))
        width = [(0, self.tokens - len(tokens))] + [(0, 0)] * (tokens.ndim - 1)
        padded, mask = jnp.pad(tokens, width), jnp.arange(self.tokens) < len(tokens)
        return Text(*(jnp.broadcast_to(one, (count, *one.shape)) for one in (padded, mask)))

    def embedding(self, channels: int, rngs: Any) -> None:
        """None: the network has an encoder of its own for text."""
        del channels, rngs


@functools.lru_cache(maxsize=16)
def null_tokens(kind: TextKind) -> NDArray[Any]:
    """The tokens of the empty caption: ids [t], or vectors [t, d]."""
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, kind.dtype, kind.dtype))
    flat = np.frombuffer(base64.b64decode(kind.null_tokens), dtype)
    return flat if kind.learned else flat.reshape(-1, kind.channels)


@dataclass(frozen=True)
class GivenKind(ConditionKind):
    """The first frames of a clip; the others are the example (:class:`Given`).

    The network puts the frames before those to predict. A sample with the given frames before it
    is a clip as it is stored (:func:`sid2core.conditioning.whole`).

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
        self,
        records: Records,
        rows: NDArray[np.int64],
        examples: NDArray[np.uint8],
        words: NDArray[np.uint64],
    ) -> tuple[NDArray[np.uint8], Any]:
        """The clip [b, f, h, w, c] in two."""
        del records, words
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
