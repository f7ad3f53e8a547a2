"""The two blocks of the Residual U-ViT.

Every block maps [b, (f,) h, w, c] to the same shape and is the identity when freshly made: its last
layers start at zero. Dropout takes its key as an argument; no randomness hides in module state.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx

from sid2core.conditioning import Text
from sid2core.models.architecture import UViTConfig
from sid2core.models.attention import attend, rotate
from sid2core.models.dropout import DropoutKey, dropped
from sid2core.models.execution import Execution
from sid2core.models.layers import (
    ZEROS,
    FiLM,
    convolution,
    group_norm,
    layer_norm,
    linear,
    rms_norm,
    swish,
)
from sid2core.typing import Array, Embedding, Samples


class Embedded(NamedTuple):
    """Noise level and condition as blocks take them."""

    emb: Embedding
    """Both as one vector."""
    text: Text | None = None
    """Further keys and values of attention, for models with text."""


class ResBlock(nnx.Module):
    """x + conv(swish(FiLM(norm(conv(swish(norm(x))))))), both convolutions 3×3, the last from zero.

    3×3×3 for video. Source: SiD2 supplement B.3 (two 3×3 convolutions a block); layout of
    arXiv 2301.11093.
    """

    def __init__(self, config: UViTConfig, level: int, execution: Execution, rngs: nnx.Rngs):
        channels, axes = config.channels[level], len(config.image_shape) - 1
        self.norm_in = group_norm(channels, rngs)
        self.conv_in = convolution(channels, axes, rngs, dtype=config.compute_dtype)
        self.norm_out = group_norm(channels, rngs)
        self.film = FiLM(config.emb_channels, channels, rngs, config.compute_dtype)
        self.conv_out = convolution(
            channels, axes, rngs, kernel_init=ZEROS, dtype=config.compute_dtype
        )
        self.dropout, self.dtype = config.dropout[level], config.compute_dtype

    def __call__(self, x: Samples, condition: Embedded, dropout_key: DropoutKey | None) -> Samples:
        """Apply the block; ``dropout_key`` None switches dropout off."""
        h = self.conv_in(swish(self.norm_in(x), self.dtype))
        h = swish(self.film(self.norm_out(h), condition.emb), self.dtype)
        return x + self.conv_out(dropped(h, self.dropout, dropout_key))


class TransformerBlock(nnx.Module):
    """Self-attention over all positions and an MLP of width 4c; FiLM before each, q and k normed.

    12 c² multiply-adds a token in linear layers, as SiD2 supplement B.3 counts them. Where there is
    text, its keys and values stand behind the positions' own.
    """

    def __init__(self, config: UViTConfig, level: int, execution: Execution, rngs: nnx.Rngs):
        channels, dtype = config.channels[level], config.compute_dtype
        self.heads, self.head_size = config.heads_of(level)

        def film(place: str) -> FiLM | None:
            used = config.film in (place, "both")
            return FiLM(config.emb_channels, channels, rngs, dtype) if used else None

        self.norm_attention = layer_norm(channels, rngs)
        self.film_attention = film("attention")
        self.qkv = linear(channels, 3 * channels, rngs, dtype=dtype)
        self.norm_q = rms_norm(self.head_size, rngs)
        self.norm_k = rms_norm(self.head_size, rngs)
        self.text = (
            None
            if config.text_width is None
            else linear(config.text_width, 2 * channels, rngs, dtype=dtype)
        )
        self.attention_out = linear(channels, channels, rngs, kernel_init=ZEROS, dtype=dtype)
        self.norm_mlp = layer_norm(channels, rngs)
        self.film_mlp = film("mlp")
        self.mlp_in = linear(channels, 4 * channels, rngs, dtype=dtype)
        self.mlp_out = linear(4 * channels, channels, rngs, kernel_init=ZEROS, dtype=dtype)
        self.dropout, self.dtype = config.dropout[level], dtype
        self.order, self.rope = config.order, config.position == "rope"
        self.implementation = execution.attention

    def __call__(self, x: Samples, condition: Embedded, dropout_key: DropoutKey | None) -> Samples:
        """Apply the block; ``dropout_key`` None switches dropout off."""
        match self.order:
            case "attention_first":
                x = x + self._attention(x, condition)
                return x + self._mlp(x, condition, dropout_key)
            case "mlp_first":
                x = x + self._mlp(x, condition, dropout_key)
                return x + self._attention(x, condition)
            case _:
                return x + self._attention(x, condition) + self._mlp(x, condition, dropout_key)

    def _mlp(self, x: Samples, condition: Embedded, dropout_key: DropoutKey | None) -> Samples:
        h = self._modulated(self.film_mlp, self.norm_mlp(x), condition)
        h = nnx.gelu(self.mlp_in(h))
        return self.mlp_out(dropped(h, self.dropout, dropout_key))

    def _attention(self, x: Samples, condition: Embedded) -> Samples:
        h = self._modulated(self.film_attention, self.norm_attention(x), condition)
        b, *grid, c = h.shape
        parts = jnp.split(self.qkv(h).reshape(b, -1, 3 * c), 3, axis=-1)
        q, k, v = (part.reshape(b, -1, self.heads, self.head_size) for part in parts)
        q, k = self.norm_q(q), self.norm_k(k)
        if self.rope:
            q, k = rotate(q, grid), rotate(k, grid)
        mask = None
        if self.text is not None:
            k, v, mask = self._with_text(k, v, condition.text)
        out = attend(q.astype(v.dtype), k.astype(v.dtype), v, mask, self.implementation)
        return self.attention_out(out.reshape(h.shape))

    def _with_text(
        self, k: Array, v: Array, text: Text | None
    ) -> tuple[Array, Array, Array | None]:
        """Keys and values of positions and text, and which of them are there."""
        if self.text is None or text is None:
            return k, v, None
        b, tokens = text.mask.shape
        both = self.text(text.tokens).reshape(b, tokens, 2, self.heads, self.head_size)
        k = jnp.concatenate([k, self.norm_k(both[:, :, 0])], axis=1)
        v = jnp.concatenate([v, both[:, :, 1]], axis=1)
        here = jnp.ones((b, v.shape[1] - tokens), bool)
        return k, v, jnp.concatenate([here, text.mask], axis=1)

    def _modulated(self, film: FiLM | None, h: Samples, condition: Embedded) -> Samples:
        return (h if film is None else film(h, condition.emb)).astype(self.dtype)
