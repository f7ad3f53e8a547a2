"""The condition of one batch: a pytree whose leaves are [b, …], on the host or on devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray


class Text(NamedTuple):
    """The tokens of a caption, padded to one length."""

    tokens: Any
    """Ids of a learned encoder, int32 [b, n], or vectors of a frozen one, [b, n, d]."""
    mask: Any
    """Which tokens are there, bool [b, n]; the first always is."""


class Given(NamedTuple):
    """Clean frames that come before those to predict."""

    frames: Any
    """Raw values, uint8 [b, f, h, w, c]."""
    there: Any
    """Whether the example has them, bool [b]."""


class Condition(NamedTuple):
    """What one batch is conditioned on; a field is None where the batch has no such condition."""

    label: Any = None
    """Class indices, int32 [b]."""
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


def whole(examples: NDArray[np.uint8], condition: Condition) -> NDArray[np.uint8]:
    """Clips [b, f, h, w, c] with the frames that were given put before them, on the host.

    Without given frames it is ``examples`` itself.
    """
    if condition.given is None:
        return examples
    return np.concatenate([np.asarray(condition.given.frames), examples], axis=1)


def concatenated(*conditions: Condition) -> Condition:
    """Conditions of equal kinds as one, along the batch: for several batches in one call."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *conditions)


_Tree = TypeVar("_Tree")


def taken(condition: _Tree, rows: Any) -> _Tree:
    """The rows ``rows`` of a condition or of several: an index array or a slice."""
    import jax

    return jax.tree.map(lambda leaf: leaf[rows], condition)


def columns(condition: Condition, count: int) -> dict[str, Any]:
    """What files of ``count`` samples hold of their condition: ``labels``, int32 [count].

    As in prepared data, every label is 0 where there are no classes.
    """
    labels = np.zeros(count, np.int32) if condition.label is None else condition.label
    return {"labels": labels}
