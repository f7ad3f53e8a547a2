"""A small Transformer encoder of text, trained together with the denoiser."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from sid2core.models import sharding
from sid2core.models.attention import attend
from sid2core.models.cost import transformer_gflops
from sid2core.models.layers import ZEROS, layer_norm, linear, position_embedding
from sid2core.typing import Array, Bool, Float, Int

Vectors = Float[Array, "b n c"]
Mask = Bool[Array, "b n"]


class Block(nnx.Module):
    """h + attention(norm(h)), then h + mlp(norm(h)), the MLP of width 4c; starts as identity."""

    def __init__(self, channels: int, heads: int, dtype: str, rngs: nnx.Rngs):
        self.norm_attention = layer_norm(channels, rngs, affine=True)
        self.qkv = linear(channels, 3 * channels, rngs, dtype=dtype)
        self.attention_out = linear(channels, channels, rngs, kernel_init=ZEROS, dtype=dtype)
        self.norm_mlp = layer_norm(channels, rngs, affine=True)
        self.mlp_in = linear(channels, 4 * channels, rngs, dtype=dtype)
        self.mlp_out = linear(4 * channels, channels, rngs, kernel_init=ZEROS, dtype=dtype)
        self.heads, self.dtype = heads, dtype

    def __call__(self, h: Vectors, mask: Mask) -> Vectors:
        """Apply the block; tokens look at those of the mask."""
        b, n, c = h.shape
        normed = self.norm_attention(h).astype(self.dtype)
        parts = jnp.split(self.qkv(normed), 3, axis=-1)
        q, k, v = (part.reshape(b, n, self.heads, c // self.heads) for part in parts)
        mixed = attend(q, k, v, mask, "xla").reshape(b, n, c)
        h = h + self.attention_out(mixed).astype(h.dtype)
        normed = self.norm_mlp(h).astype(self.dtype)
        return h + self.mlp_out(nnx.gelu(self.mlp_in(normed))).astype(h.dtype)


class LearnedTextEncoder(nnx.Module):
    """norm(blocks(embedding[id] + position)): ids [b, n] to vectors [b, n, c].

    n may be smaller than ``max_tokens``, and padding changes nothing: tokens do not look at it.
    """

    def __init__(
        self,
        vocabulary: int,
        channels: int,
        depth: int,
        heads: int,
        max_tokens: int,
        rngs: nnx.Rngs,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ):
        self.embedding = nnx.Param(position_embedding(rngs.params(), (vocabulary, channels)))
        self.position = nnx.Param(position_embedding(rngs.params(), (max_tokens, channels)))
        self.blocks = nnx.List([Block(channels, heads, dtype, rngs) for _ in range(depth)])
        self.norm = layer_norm(channels, rngs, affine=True)

    def __call__(self, ids: Int[Array, "b n"], mask: Mask) -> Vectors:
        """The vectors of the tokens, float32; zero where the mask is false."""
        table, position = (sharding.gathered(one[...]) for one in (self.embedding, self.position))
        h = jnp.take(table, ids, axis=0) + position[: ids.shape[1]][None]
        for block in self.blocks:
            h = block(h, mask)
        return jnp.where(mask[..., None], self.norm(h), 0.0)


def gflops(tokens: int, channels: int, depth: int) -> float:
    """Multiply-adds of a text of so many tokens, in billions."""
    return transformer_gflops(tokens, channels, depth)
