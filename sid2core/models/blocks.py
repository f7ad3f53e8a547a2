"""The two blocks of the Residual U-ViT, and what they are made of.

Every block maps [b, h, w, c] to the same shape and is the identity when freshly made: its last
layer starts at zero. Dropout takes its key as an argument; no randomness hides in module state.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sid2core.typing import Array, Float, Image

ZEROS = nnx.initializers.zeros_init()
_MAX_GROUPS = 32
_TRUNCATED_DEVIATION = 0.87962566103423978
"""Standard deviation of a standard normal cut at ±2."""

Embedding = Float[Array, "b e"]
"""Conditioning vector of each example."""


def lecun_normal(key: Array, shape: tuple[int, ...], dtype: Any = None, **_: Any) -> Array:
    """Truncated normal of variance 1 / fan-in, drawn flat.

    The distribution is flax's default; a flat draw compiles many times faster on CPU.
    """
    deviation = math.prod(shape[:-1]) ** -0.5 / _TRUNCATED_DEVIATION
    flat = jax.random.truncated_normal(key, -2.0, 2.0, (math.prod(shape),), jnp.float32)
    return (deviation * flat).reshape(shape).astype(dtype or jnp.float32)


def linear(channels: int, channels_out: int, rngs: nnx.Rngs, **options: Any) -> nnx.Linear:
    """A linear layer over the last axis, LeCun-normal unless ``kernel_init`` says otherwise."""
    return nnx.Linear(channels, channels_out, rngs=rngs, **{"kernel_init": lecun_normal, **options})


def group_norm(channels: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """GroupNorm with the largest number of groups up to 32 that divides ``channels``."""
    return nnx.GroupNorm(channels, num_groups=math.gcd(_MAX_GROUPS, channels), rngs=rngs)


class FiLM(nnx.Module):
    """h · (1 + scale) + shift, with scale and shift linear in swish(embedding); starts as identity.

    Source: arXiv 1709.07871.
    """

    def __init__(self, emb_channels: int, channels: int, rngs: nnx.Rngs):
        self.linear = nnx.Linear(emb_channels, 2 * channels, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, h: Image, emb: Embedding) -> Image:
        """Modulate ``h`` [b, h, w, c] by ``emb`` [b, e]."""
        scale, shift = jnp.split(self.linear(nnx.swish(emb))[:, None, None, :], 2, axis=-1)
        return h * (1 + scale) + shift


class ResBlock(nnx.Module):
    """x + conv(swish(FiLM(norm(conv(swish(norm(x))))))), both convolutions 3×3, the last from zero.

    Source: SiD2 supplement B.3 (two 3×3 convolutions a block); layout of arXiv 2301.11093.
    """

    def __init__(self, channels: int, emb_channels: int, dropout: float, rngs: nnx.Rngs):
        self.norm_in = group_norm(channels, rngs)
        self.conv_in = nnx.Conv(channels, channels, (3, 3), kernel_init=lecun_normal, rngs=rngs)
        self.norm_out = group_norm(channels, rngs)
        self.film = FiLM(emb_channels, channels, rngs)
        self.conv_out = nnx.Conv(channels, channels, (3, 3), kernel_init=ZEROS, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x: Image, emb: Embedding, dropout_key: Array | None) -> Image:
        """Apply the block; ``dropout_key`` None switches dropout off."""
        h = self.conv_in(nnx.swish(self.norm_in(x)))
        h = nnx.swish(self.film(self.norm_out(h), emb))
        return x + self.conv_out(dropped(h, self.dropout, dropout_key))


class TransformerBlock(nnx.Module):
    """Self-attention over all positions, then an MLP of width 4c; FiLM before each, q and k normed.

    12 c² multiply-adds a token in linear layers, as SiD2 supplement B.3 counts them.
    """

    def __init__(
        self, channels: int, emb_channels: int, head_size: int, dropout: float, rngs: nnx.Rngs
    ):
        self.norm_attention = nnx.LayerNorm(channels, use_bias=False, use_scale=False, rngs=rngs)
        self.film_attention = FiLM(emb_channels, channels, rngs)
        self.qkv = linear(channels, 3 * channels, rngs=rngs)
        self.norm_q = nnx.RMSNorm(head_size, rngs=rngs)
        self.norm_k = nnx.RMSNorm(head_size, rngs=rngs)
        self.attention_out = linear(channels, channels, kernel_init=ZEROS, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(channels, use_bias=False, use_scale=False, rngs=rngs)
        self.film_mlp = FiLM(emb_channels, channels, rngs)
        self.mlp_in = linear(channels, 4 * channels, rngs=rngs)
        self.mlp_out = linear(4 * channels, channels, kernel_init=ZEROS, rngs=rngs)
        self.head_size = head_size
        self.dropout = dropout

    def __call__(self, x: Image, emb: Embedding, dropout_key: Array | None) -> Image:
        """Apply the block; ``dropout_key`` None switches dropout off."""
        x = x + self._attention(self.film_attention(self.norm_attention(x), emb))
        h = nnx.gelu(self.mlp_in(self.film_mlp(self.norm_mlp(x), emb)))
        return x + self.mlp_out(dropped(h, self.dropout, dropout_key))

    def _attention(self, h: Image) -> Image:
        b, height, width, c = h.shape
        heads = c // self.head_size
        qkv = self.qkv(h).reshape(b, height * width, 3, heads, self.head_size)
        q, k, v = self.norm_q(qkv[:, :, 0]), self.norm_k(qkv[:, :, 1]), qkv[:, :, 2]
        out = jax.nn.dot_product_attention(q, k, v)
        return self.attention_out(out.reshape(b, height, width, c))


def dropped(h: Image, rate: float, key: Array | None) -> Image:
    """Inverted dropout: zero with probability ``rate``, scale the rest by 1 / (1 − rate).

    Sixteen random bits an element, so the rate is a multiple of 2⁻¹⁶ (and is scaled by as such):
    half the price of a uniform number, which on CPU is a good part of a small model's step.
    """
    if key is None or rate == 0.0:
        return h
    threshold = round(rate * 2**16)
    bits = jax.random.bits(key, (h.size,), jnp.uint16).reshape(h.shape)
    return jnp.where(bits >= threshold, h / (1.0 - threshold / 2**16), jnp.zeros_like(h))
