"""Dropout whose mask is a function of a key and of positions in the batch.

A batch may be computed in parts (gradient accumulation). With a :class:`PartKey` each part has the
mask that it has within the whole batch, and only that part's mask is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from sid2core.typing import Array, Samples


@partial(jax.tree_util.register_dataclass, data_fields=["key", "index"], meta_fields=["parts"])
@dataclass(frozen=True)
class PartKey:
    """A key for one part of a batch: its rows index, index + parts, index + 2 parts and so on."""

    key: Array
    index: Array
    parts: int


DropoutKey = Array | PartKey
"""One typed key for a whole batch, or for a part of one."""


def fold(key: DropoutKey | None, index: int | Array) -> DropoutKey | None:
    """The key of block ``index``; None stays None."""
    if isinstance(key, PartKey):
        return replace(key, key=jax.random.fold_in(key.key, index))
    return None if key is None else jax.random.fold_in(key, index)


def split(key: DropoutKey | None, count: int) -> list[DropoutKey | None]:
    """``count`` different keys; for None, ``count`` times None."""
    if isinstance(key, PartKey):
        return [replace(key, key=one) for one in jax.random.split(key.key, count)]
    return [None] * count if key is None else list(jax.random.split(key, count))


def dropped(h: Samples, rate: float, key: DropoutKey | None) -> Samples:
    """Inverted dropout: zero with probability ``rate``, scale the rest by 1 / (1 − rate).

    Sixteen random bits per element, which cost half as much as a uniform number. The rate is
    rounded to a multiple of 2⁻¹⁶, also in the scale.
    """
    if key is None or rate == 0.0:
        return h
    threshold = round(rate * 2**16)
    if isinstance(key, PartKey):
        bits = _bits_of_part(key, h.shape)
    else:
        bits = jax.random.bits(key, (h.size,), jnp.uint16).reshape(h.shape)
    return jnp.where(bits >= threshold, h / (1.0 - threshold / 2**16), jnp.zeros_like(h))


def _bits_of_part(key: PartKey, shape: tuple[int, ...]) -> Array:
    """The part's rows of ``jax.random.bits(key, whole batch)``.

    JAX's Threefry hashes (key, position in the flattened array); here the positions are those of
    the part's rows. They have 64 bits, in two halves: a large batch has more than 2³² elements.
    """
    size = math.prod(shape[1:])
    starts = (np.arange(shape[0] * key.parts, dtype=np.uint64) * np.uint64(size)).reshape(
        shape[0], key.parts
    )
    halves = [jnp.asarray(half.astype(np.uint32)) for half in (starts >> 32, starts & 0xFFFFFFFF)]
    high, low = (
        jnp.broadcast_to(jnp.take(half, key.index, axis=1)[:, None], (shape[0], size))
        for half in halves
    )
    position = low + jnp.arange(size, dtype=jnp.uint32)[None]
    carried = high + (position < low).astype(jnp.uint32)
    # Row by row, so that rows stay the leading axis and can be shared among devices.
    counts = jnp.stack([carried, position], axis=1)
    words = jax.vmap(threefry_2x32, (None, 0))(jax.random.key_data(key.key), counts)
    return (words[:, 0] ^ words[:, 1]).astype(jnp.uint16).reshape(shape)
