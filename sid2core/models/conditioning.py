"""What the network is told beside the noisy image: the noise level and the class."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx

from sid2core.models.layers import linear
from sid2core.typing import Array, Embedding, Labels, LogSnr

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
    """MLP(features(logsnr)) + embedding[label]; the label ``num_classes`` means no class."""

    def __init__(self, num_classes: int, emb_channels: int, rngs: nnx.Rngs):
        self.linear_in = linear(emb_channels, emb_channels, rngs)
        self.linear_out = linear(emb_channels, emb_channels, rngs)
        self.classes = nnx.Embed(
            num_classes + 1,
            emb_channels,
            embedding_init=nnx.initializers.normal(1.0),
            rngs=rngs,
        )
        self.emb_channels = emb_channels

    def __call__(self, logsnr: LogSnr, labels: Labels) -> Embedding:
        """The conditioning vector [b, emb_channels]."""
        h = self.linear_in(fourier_features(logsnr, self.emb_channels))
        return self.linear_out(nnx.swish(h)) + self.classes(labels)
