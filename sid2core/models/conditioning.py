"""The conditioning vector: noise level and condition."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx

from sid2core.conditioning import Condition, ConditionSpec
from sid2core.models import sharding
from sid2core.models.layers import linear
from sid2core.typing import Array, Embedding, LogSnr

LOGSNR_SCALE = 20.0
"""Log-SNR is divided by this, so that every schedule in use falls within about [-1, 1]."""
MAX_FREQUENCY = 100.0
"""Highest angular frequency of the features, in radians a unit of rescaled log-SNR."""


def fourier_features(logsnr: LogSnr, size: int) -> Array:
    """[sin(ω u), cos(ω u)] with u = logsnr / 20 and ω geometric from 1 to 100.

    Returns [b, size]; ``size`` is even.
    """
    frequencies = jnp.exp(jnp.linspace(0.0, math.log(MAX_FREQUENCY), size // 2))
    angles = (logsnr / LOGSNR_SCALE)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Conditioning(nnx.Module):
    """MLP(features(logsnr)) + embedding of each kind of condition, such as a class's vector."""

    def __init__(self, spec: ConditionSpec, emb_channels: int, rngs: nnx.Rngs):
        self.linear_in = linear(emb_channels, emb_channels, rngs)
        self.linear_out = linear(emb_channels, emb_channels, rngs)
        embeddings = {kind: kind.embedding(emb_channels, rngs) for kind in spec.kinds}
        self.embedded = tuple(
            (kind.name, kind.weights) for kind, made in embeddings.items() if made is not None
        )
        for kind, made in embeddings.items():
            if made is not None:
                setattr(self, kind.weights, made)
        self.emb_channels = emb_channels

    def __call__(self, logsnr: LogSnr, condition: Condition) -> Embedding:
        """The conditioning vector [b, emb_channels]."""
        h = self.linear_in(fourier_features(logsnr, self.emb_channels))
        h, values = self.linear_out(nnx.swish(h)), condition.values
        for name, weights in self.embedded:
            h = h + sharding.with_gathered(getattr(self, weights))(values[name])
        return h
