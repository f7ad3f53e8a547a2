"""Gaussian noise of any shape."""

import math

import jax
import jax.numpy as jnp

from sid2core.typing import Array, Key

__all__ = ["standard_normal"]

OneKey = Key[Array, ""]
"""A single typed PRNG key."""


def standard_normal(key: OneKey, shape: tuple[int, ...]) -> Array:
    """``eps ~ N(0, I)`` of ``shape``, float32.

    Sampled flat, then reshaped: the values are those of ``jax.random.normal``, but on CPU XLA takes
    seconds to compile a random array of several axes.
    """
    return jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape)
