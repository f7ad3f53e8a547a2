"""One seed for everything random: keys derive from it by folding in a name and an index."""

import hashlib

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.typing import Array


def key(seed: int, name: str) -> Array:
    """The PRNG key of the stream ``name``: independent of every other name's."""
    digest = hashlib.sha256(name.encode()).digest()
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "little"))


def keys(base: Array, indices: ArrayLike) -> Array:
    """One key for each index: image i's key depends on (base, i) alone."""
    return jax.vmap(lambda index: jax.random.fold_in(base, index))(jnp.asarray(indices))


def permutation(seed: int, name: str, size: int) -> Array:
    """A permutation of 0 … size − 1 from the stream ``name``."""
    return jax.random.permutation(key(seed, name), size)
