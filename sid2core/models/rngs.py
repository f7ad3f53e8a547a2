"""Random keys of fresh parameters, drawn without a traced counter.

:class:`flax.nnx.RngStream` counts its draws in a JAX array. Inside a trace each increment searches
the increments before it, so that tracing a network takes time quadratic in its parameters. Here a
Python integer counts: the same keys, in linear time.
"""

from __future__ import annotations

import jax
from flax import nnx

from sid2core.typing import Array


class _Stream(nnx.RngStream):
    """The keys ``fold_in(key, n)`` for n = 0, 1, 2 and so on."""

    def __init__(self, key: Array) -> None:
        super().__init__(key, tag="default")
        self.drawn = 0

    def __call__(self) -> Array:
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key


class Rngs(nnx.Rngs):
    """The keys that ``nnx.Rngs(key)`` draws, in the same order."""

    default: _Stream

    def __init__(self, key: Array) -> None:
        super().__init__()
        self.default = _Stream(key)
