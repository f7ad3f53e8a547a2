"""A small convolutional classifier: the data set's own feature extractor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from sid2core.typing import Array, Features, Image

_GROUPS = 8  # at most: group norm of few channels falls back to their greatest common divisor


class Classifier(nnx.Module):
    """Stages of 3×3 convolutions, group norm and gelu; each stage but the first halves the size.

    An image's outputs are independent of the other images of a batch. A stage rounds half a size
    up, so sizes need not be powers of two.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: Sequence[int],
        feature_size: int,
        num_classes: int,
        rngs: nnx.Rngs,
    ) -> None:
        """One entry of ``channels`` for each stage."""
        widths = [in_channels, *channels]
        self.stages = nnx.List(
            [
                Stage(width, out, stride=1 if index == 0 else 2, rngs=rngs)
                for index, (width, out) in enumerate(zip(widths[:-1], channels, strict=True))
            ]
        )
        self.hidden = _linear(channels[-1], feature_size, rngs)
        self.head = _linear(feature_size, num_classes, rngs)

    def __call__(self, x: Image) -> tuple[Features, Array]:
        """Features [b, d] (gelu of the hidden layer after a mean over positions), logits [b, k]."""
        for stage in self.stages:
            x = stage(x)
        features = nnx.gelu(self.hidden(x.mean(axis=(1, 2))))
        return features, self.head(features)


class Stage(nnx.Module):
    """Two convolutions; the first may halve the size."""

    def __init__(self, width: int, out: int, *, stride: int, rngs: nnx.Rngs) -> None:
        """From ``width`` to ``out`` channels."""
        self.down, self.down_norm = _conv(width, out, stride, rngs), _norm(out, rngs)
        self.conv, self.conv_norm = _conv(out, out, 1, rngs), _norm(out, rngs)

    def __call__(self, x: Image) -> Image:
        """[b, h, w, width] to [b, ceil(h / stride), ceil(w / stride), out]."""
        x = nnx.gelu(self.down_norm(self.down(x)))
        return nnx.gelu(self.conv_norm(self.conv(x)))


# Full float32 everywhere: the reduced precision of accelerators changes features by 5e-4.
def _conv(width: int, out: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        width,
        out,
        (3, 3),
        strides=stride,
        precision=jax.lax.Precision.HIGHEST,
        kernel_init=_kernel,
        rngs=rngs,
    )


def _kernel(key: Array, shape: Sequence[int], dtype: Any) -> Array:
    """Normal of variance 1 / fan-in, sampled flat: XLA compiles rank 4 for seconds."""
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    return (flat / math.sqrt(math.prod(shape[:-1]))).reshape(shape)


def _linear(width: int, out: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        width, out, precision=jax.lax.Precision.HIGHEST, kernel_init=_kernel, rngs=rngs
    )


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    return nnx.GroupNorm(channels, num_groups=math.gcd(channels, _GROUPS), rngs=rngs)
