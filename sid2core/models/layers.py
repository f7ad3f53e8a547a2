"""What blocks are made of: linear layers, convolutions, norms, modulation.

Linear layers and convolutions compute in the type that they are given, ``model.compute_dtype``:
they cast their input and their weights to it. Whatever it is, these are float32:

- parameters, their averages, their gradients as the optimiser sees them, and its moments;
- the conditioning vector: the features of the noise level, the embedding of the condition, and the
  mean of the text;
- norms and their statistics, and what follows them until the next layer: modulation and swish;
- the scores and the softmax of attention;
- the last norm, the last convolution and so the output;
- the loss, and everything of the diffusion process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from sid2core.models import cpu_forms, sharding
from sid2core.typing import Array, Embedding, Samples

ZEROS = nnx.initializers.zeros_init()
_MAX_GROUPS, _EPSILON = 32, 1e-6
_TRUNCATED_DEVIATION = 0.87962566103423978
"""Standard deviation of a standard normal cut at ±2."""


def lecun_normal(key: Array, shape: tuple[int, ...], dtype: Any = None, **_: Any) -> Array:
    """Truncated normal of variance 1 / fan-in, drawn flat.

    The distribution is flax's default; a flat draw compiles many times faster on CPU.
    """
    deviation = math.prod(shape[:-1]) ** -0.5 / _TRUNCATED_DEVIATION
    flat = jax.random.truncated_normal(key, -2.0, 2.0, (math.prod(shape),), jnp.float32)
    return (deviation * flat).reshape(shape).astype(dtype or jnp.float32)


def linear(channels: int, channels_out: int, rngs: nnx.Rngs, **options: Any) -> nnx.Linear:
    """A linear layer over the last axis, LeCun-normal unless ``kernel_init`` says otherwise."""
    settings = {
        "kernel_init": lecun_normal,
        "dot_general": cpu_forms.product,
        "promote_dtype": sharding.promoted,
    } | options
    return nnx.Linear(channels, channels_out, rngs=rngs, **settings)


def convolution(channels: int, axes: int, rngs: nnx.Rngs, **options: Any) -> nnx.Conv:
    """3×3, or 3×3×3 for video, over zero-padded borders, from ``channels`` to as many."""
    settings = {
        "kernel_init": lecun_normal,
        "conv_general_dilated": cpu_forms.convolve,
        "promote_dtype": sharding.promoted,
    } | options
    return nnx.Conv(channels, channels, (3,) * axes, padding="SAME", rngs=rngs, **settings)


class GroupNorm(nnx.Module):
    """GroupNorm in float32, its statistics in an order that XLA does not make slow on CPU.

    Positions are summed first, channel by channel: with the channels of a group at once that takes
    thirty times as long.
    """

    def __init__(self, channels: int, groups: int, rngs: nnx.Rngs):
        self.scale = nnx.Param(nnx.initializers.ones(rngs.params(), (channels,), jnp.float32))
        self.bias = nnx.Param(ZEROS(rngs.params(), (channels,), jnp.float32))
        self.num_groups = groups

    def __call__(self, x: Samples) -> Samples:
        """Normalise ``x`` [b, …, c]."""
        x, positions = x.astype(jnp.float32), tuple(range(1, x.ndim - 1))
        mean = self._of_groups(x.mean(positions, keepdims=True))
        square = self._of_groups(jnp.square(x).mean(positions, keepdims=True))
        variance = jnp.maximum(0.0, square - jnp.square(mean))
        scale, bias = (
            sharding.gathered(one[...]).reshape(*(1,) * (x.ndim - 1), -1)
            for one in (self.scale, self.bias)
        )
        return (x - mean) * (scale * lax.rsqrt(variance + _EPSILON)) + bias

    def _of_groups(self, means: Array) -> Array:
        """Means of channels to the mean of each one's group; [b, …, c]."""
        grouped = means.reshape(*means.shape[:-1], self.num_groups, -1)
        return cpu_forms.spread(grouped.mean(-1), means.shape[-1])


def group_norm(channels: int, rngs: nnx.Rngs) -> GroupNorm:
    """GroupNorm with the largest number of groups up to 32 that divides ``channels``."""
    groups = math.gcd(_MAX_GROUPS, channels)
    return GroupNorm(channels, groups, rngs)


def rms_norm(channels: int, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """RMSNorm over the last axis with a scale, in float32."""
    return nnx.RMSNorm(channels, dtype=jnp.float32, promote_dtype=sharding.promoted, rngs=rngs)


def layer_norm(channels: int, rngs: nnx.Rngs, *, affine: bool = False) -> nnx.LayerNorm:
    """LayerNorm in float32, without scale and bias unless ``affine``: what follows modulates."""
    return nnx.LayerNorm(
        channels,
        use_bias=affine,
        use_scale=affine,
        dtype=jnp.float32,
        promote_dtype=sharding.promoted,
        rngs=rngs,
    )


def swish(h: Samples, dtype: Any) -> Samples:
    """H sigmoid(h), in float32 as norms leave it, handed on in ``dtype``."""
    return nnx.swish(h).astype(dtype)


class FiLM(nnx.Module):
    """h · (1 + scale) + shift, with scale and shift linear in swish(embedding); starts as identity.

    Source: arXiv 1709.07871.
    """

    def __init__(self, emb_channels: int, channels: int, rngs: nnx.Rngs, dtype: Any):
        self.linear = nnx.Linear(
            emb_channels,
            2 * channels,
            kernel_init=ZEROS,
            dtype=dtype,
            promote_dtype=sharding.promoted,
            rngs=rngs,
        )

    def __call__(self, h: Samples, emb: Embedding) -> Samples:
        """Modulate ``h`` [b, …, c] by ``emb`` [b, e], both float32."""
        both = self.linear(nnx.swish(emb)).astype(h.dtype)
        both = both.reshape(both.shape[0], *(1,) * (h.ndim - 2), -1)
        scale, shift = jnp.split(both, 2, axis=-1)
        return h * (1 + scale) + shift


def position_embedding(key: Array, shape: Sequence[int]) -> Array:
    """N(0, 0.02²), drawn flat: that compiles many times faster on CPU."""
    return 0.02 * jax.random.normal(key, (math.prod(shape),)).reshape(shape)
