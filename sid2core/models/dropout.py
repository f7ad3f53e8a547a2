"""Dropout whose mask is a function of a key and of places in the batch.

A batch may be computed in parts (gradient accumulation). With a :class:`PartKey` each part is
dropped as it would be within the whole, without drawing the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p

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
    """``count`` keys of which none is another's; None gives so many None."""
    if isinstance(key, PartKey):
        return [replace(key, key=one) for one in jax.random.split(key.key, count)]
    return [None] * count if key is None else list(jax.random.split(key, count))


def dropped(h: Samples, rate: float, key: DropoutKey | None) -> Samples:
    """Inverted dropout: zero with probability ``rate``, scale the rest by 1 / (1 − rate).

    Sixteen random bits an element, so the rate is a multiple of 2⁻¹⁶ (and is scaled by as such):
    half the price of a uniform number, which on CPU is a good part of a small model's step.
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

    JAX's Threefry hashes (key, place in the flattened array); here the places are those of the
    part's rows. They have 64 bits, in two words: a large batch has more than 2³² elements.
    """
    size = math.prod(shape[1:])
    starts = (np.arange(shape[0] * key.parts, dtype=np.uint64) * np.uint64(size)).reshape(
        shape[0], key.parts
    )
    words = [jnp.asarray(word.astype(np.uint32)) for word in (starts >> 32, starts & 0xFFFFFFFF)]
    high, low = (
        jnp.broadcast_to(jnp.take(word, key.index, axis=1)[:, None], (shape[0], size))
        for word in words
    )
    place = low + jnp.arange(size, dtype=jnp.uint32)[None]
    carried = high + (place < low).astype(jnp.uint32)
    first, second = threefry2x32_p.bind(*jax.random.key_data(key.key), carried, place)
    return (first ^ second).astype(jnp.uint16).reshape(shape)
