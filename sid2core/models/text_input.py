"""Text as the network takes it: further keys and values of attention, and a part of FiLM's vector.

    h = linear(vectors) + positions                        further keys and values
    emb += MLP(norm(mean of linear(vectors)))              modulation (Imagen, arXiv 2205.11487)

Vectors are those of a frozen encoder, or the output of the network's own. The mean is over the
tokens that are there, and attention looks at these alone, so padding changes nothing but rounding.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from sid2core.conditioning import Text, TextKind
from sid2core.models import sharding
from sid2core.models.architecture import UViTConfig
from sid2core.models.layers import layer_norm, linear, position_embedding
from sid2core.models.text.learned import LearnedTextEncoder
from sid2core.typing import Array, Bool, Embedding, Float

Tokens = Float[Array, "b n d"]
"""Vectors of n tokens."""
Mask = Bool[Array, "b n"]
"""Which tokens are there."""


class TextInput(nnx.Module):
    """From a caption's tokens to the vectors that blocks look at, and to an embedding."""

    def __init__(self, config: UViTConfig, rngs: nnx.Rngs):
        kind, width = config.condition.text, config.text_width
        assert kind is not None
        assert width is not None
        self.encoder = _encoder(kind, rngs, config.compute_dtype) if kind.learned else None
        self.linear = linear(kind.channels, width, rngs, dtype=config.compute_dtype)
        shape = (kind.tokens, width)
        learned = config.text_positions
        self.positions = nnx.Param(position_embedding(rngs.params(), shape)) if learned else None
        self.pooled = Pooled(width, config.emb_channels, rngs) if config.text_pooled else None

    def __call__(self, text: Text) -> tuple[Text, Embedding | None]:
        """Vectors [b, n, width] with their mask, and the embedding [b, emb_channels] or None."""
        vectors = text.tokens if self.encoder is None else self.encoder(text.tokens, text.mask)
        h = self.linear(vectors)
        pooled = None if self.pooled is None else self.pooled(h, text.mask)
        if self.positions is not None:
            positions = sharding.gathered(self.positions[...].astype(h.dtype))
            h = h + _fitted(positions, h.shape[1])[None]
        return Text(h, text.mask), pooled


def _encoder(
    kind: TextKind, rngs: nnx.Rngs, dtype: Literal["float32", "bfloat16"]
) -> LearnedTextEncoder:
    assert kind.vocabulary is not None
    assert kind.depth is not None
    assert kind.heads is not None
    sizes = kind.vocabulary, kind.channels, kind.depth, kind.heads, kind.tokens
    return LearnedTextEncoder(*sizes, rngs, dtype)


class Pooled(nnx.Module):
    """The mean over the tokens that are there, normed, through an MLP of one hidden layer."""

    def __init__(self, width: int, emb_channels: int, rngs: nnx.Rngs):
        self.norm = layer_norm(width, rngs)
        self.linear_in = linear(width, emb_channels, rngs)
        self.linear_out = linear(emb_channels, emb_channels, rngs)

    def __call__(self, h: Tokens, mask: Mask) -> Embedding:
        """[b, n, width] to [b, emb_channels], in float32."""
        hidden = self.linear_in(self.norm(mean_of_present(h, mask)))
        return self.linear_out(nnx.swish(hidden))


def mean_of_present(h: Tokens, mask: Mask) -> Float[Array, "b d"]:
    """``Σ m h / Σ m`` over the tokens, in float32."""
    weight = mask.astype(jnp.float32)[..., None]
    return (h.astype(jnp.float32) * weight).sum(1) / weight.sum(1)


def _fitted(positions: Float[Array, "m d"], tokens: int) -> Float[Array, "n d"]:
    """The positions of so many tokens; beyond the last one there is padding alone."""
    more = max(0, tokens - len(positions))
    return jnp.pad(positions, [(0, more), (0, 0)])[:tokens]
