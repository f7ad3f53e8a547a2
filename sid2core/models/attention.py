"""Attention: text as further keys and values, and positions as rotations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from numpy.typing import NDArray

from sid2core.models.bilinear import bilinear
from sid2core.models.cpu_forms import PRODUCT
from sid2core.models.execution import attention_implementation
from sid2core.typing import Array, Bool, Float

Heads = Float[Array, "b n k d"]
"""n tokens in k heads of d channels."""
Keys = Float[Array, "b m k d"]
"""The same of m tokens to look at."""

_ROPE_BASE = 10_000.0


def attend(q: Heads, k: Keys, v: Keys, mask: Bool[Array, "b m"] | None, requested: str) -> Heads:
    """``softmax(q kᵀ / sqrt(d)) v``, masked keys left out; softmax in float32.

    Args:
        q: queries [b, n, heads, d].
        k: keys [b, m, heads, d].
        v: values [b, m, heads, d].
        mask: which keys are there [b, m]; None for all.
        requested: as :func:`attention_implementation` takes it.
    """
    chosen = attention_implementation(
        requested, jax.default_backend(), q.dtype.name, q.shape[-1], k.shape[1]
    )
    allowed = None if mask is None else mask[:, None, None, :]
    library: Literal["xla", "cudnn"] = "cudnn" if chosen == "cudnn" else "xla"

    def attention(q: Heads, k: Keys, v: Keys) -> Heads:
        if library == "xla" and q.dtype == jnp.bfloat16:
            return _in_half_precision(q, k, v, allowed)
        return jax.nn.dot_product_attention(q, k, v, mask=allowed, implementation=library)

    call = jax.checkpoint(attention) if chosen == "recomputed" else attention
    return checkpoint_name(call(q, k, v), PRODUCT)


def _in_half_precision(q: Heads, k: Keys, v: Keys, allowed: Array | None) -> Heads:
    """Attention whose products, in the gradient too, have factors of one type."""
    scores = _scores(q, k) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = jnp.where(allowed, scores, 0.7 * jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bhnm,bmhd->bnhd", weights, v)


def _scores_form(q: Heads, k: Keys) -> Array:
    return jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)


_scores = bilinear(
    _scores_form,
    lambda q, k, ds: jnp.einsum("bhnm,bmhd->bnhd", ds.astype(q.dtype), k),
    lambda q, k, ds: jnp.einsum("bhnm,bnhd->bmhd", ds.astype(k.dtype), q),
)
"""``s[b, h, n, m] = sum_d q[b, n, h, d] k[b, m, h, d]`` in float32.

JAX's own gradient of such a product multiplies float32 by bfloat16; this one rounds the gradient
of s first.
"""


def rotate(h: Heads, grid: Sequence[int]) -> Heads:
    """``(h1, h2) → (h1 cos a − h2 sin a, h1 sin a + h2 cos a)``: rotary embedding along each axis.

    Channel i pairs with i + d/2, and the axes take the pairs in turn; the i-th of an axis
    with m pairs turns by 10000^(−i/m) radians a position, so that qᵀk depends on differences of
    positions only. arXiv 2104.09864, one axis at a time.

    Args:
        h: queries or keys [b, n, heads, d] of all positions of ``grid`` in order.
        grid: (frames,) height, width.
    """
    angles = _angles(tuple(grid), h.shape[-1] // 2)
    cos, sin = (jnp.asarray(f(angles)[None, :, None, :], h.dtype) for f in (np.cos, np.sin))
    first, second = jnp.split(h, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def _angles(grid: tuple[int, ...], pairs: int) -> NDArray[np.float64]:
    """Angle of each pair at each position, [n, pairs]."""
    positions = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
    positions = positions.reshape(math.prod(grid), len(grid))
    edges = [axis * pairs // len(grid) for axis in range(len(grid) + 1)]
    parts = []
    for axis, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        frequency = _ROPE_BASE ** (-np.arange(stop - start) / max(stop - start, 1))
        parts.append(positions[:, axis, None] * frequency)
    return np.concatenate(parts, axis=-1)
