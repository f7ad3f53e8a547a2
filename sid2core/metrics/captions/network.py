"""Two towers, of images and of texts, whose vectors are close where a text describes an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from sid2core.metrics.networks.classifier import Classifier
from sid2core.models.text.learned import LearnedTextEncoder
from sid2core.typing import Array, Bool, Float, Image, Int

WIDTH = 64
"""Channels of the text tower, and the length of both towers' vectors."""
DEPTH, HEADS = 2, 4
"""Of the text tower."""
_FIRST_SCALE, _LARGEST_SCALE = 1 / 0.07, 100.0
_SPREAD = 50.0  # the encoder's embeddings begin with a standard deviation of 0.02

Vectors = Float[Array, "b d"]


class TwoTowers(nnx.Module):
    """A convolutional network of images, and a Transformer of texts with a mean over tokens.

    The image tower has a head for each attribute too.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: Sequence[int],
        feature_size: int,
        vocabulary: int,
        max_tokens: int,
        attribute_values: int,
        rngs: nnx.Rngs,
    ) -> None:
        """``attribute_values``: the number of values of all attributes together."""
        self.image = Classifier(
            in_channels=in_channels,
            channels=channels,
            feature_size=feature_size,
            num_classes=WIDTH + attribute_values,
            detail=False,
            rngs=rngs,
        )
        self.text = LearnedTextEncoder(vocabulary, WIDTH, DEPTH, HEADS, max_tokens, rngs)
        # Of unit size, so that the learning rate of the image tower suits them.
        self.text.embedding = nnx.Param(_SPREAD * self.text.embedding[...])
        self.text.position = nnx.Param(_SPREAD * self.text.position[...])
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.scale = nnx.Param(jnp.full((), math.log(_FIRST_SCALE), jnp.float32))

    def images(self, x: Image) -> tuple[Vectors, Float[Array, "b k"]]:
        """Unit vectors [b, d] of images in [-1, 1], and scores [b, k] of the attributes' values."""
        _, found = self.image(x)
        return unit(found[:, :WIDTH]), found[:, WIDTH:]

    def texts(self, ids: Int[Array, "b n"], mask: Bool[Array, "b n"]) -> Vectors:
        """Unit vectors [b, d] of texts; every text has a token."""
        vectors = self.text(ids, mask)
        mean = vectors.sum(axis=1) / mask.sum(axis=1, keepdims=True).astype(vectors.dtype)
        return unit(self.out(mean))

    def similarities(self, images: Vectors, texts: Vectors) -> Float[Array, "b b"]:
        """The scaled cosines of all pairs, [images, texts]; the scale is learned, at most 100."""
        scale = jnp.exp(jnp.minimum(self.scale[...], math.log(_LARGEST_SCALE)))
        return scale * images @ texts.T


def unit(x: Vectors) -> Vectors:
    """``x / ‖x‖``."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
