"""A small convolutional network: the data set's own feature extractor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sid2core.typing import Array, Clip, Features, Float, Image

DETAIL = 4.0
"""Factor of an image's fine detail where it is an input of its own."""
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
        detail: bool,
        rngs: nnx.Rngs,
    ) -> None:
        """One entry of ``channels`` for each stage; ``detail``: whether :func:`with_detail`."""
        self.detail = detail
        widths = [2 * in_channels if detail else in_channels, *channels]
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
        if self.detail:
            x = with_detail(x)
        for stage in self.stages:
            x = stage(x)
        features = nnx.gelu(self.hidden(x.mean(axis=(1, 2))))
        return features, self.head(features)


class ClipClassifier(nnx.Module):
    """The same of clips: each stage convolves in space, then in time (arXiv 1711.11248, R(2+1)D).

    Each stage but the first halves height, width and the number of frames. Frames see detail and
    motion as inputs of their own (:func:`with_detail`, :func:`with_motion`).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: Sequence[int],
        feature_size: int,
        outputs: int,
        rngs: nnx.Rngs,
    ) -> None:
        """One entry of ``channels`` for each stage; ``outputs``: of the last layer."""
        widths = [3 * in_channels, *channels]
        self.stages = nnx.List(
            [
                ClipStage(width, out, stride=1 if index == 0 else 2, rngs=rngs)
                for index, (width, out) in enumerate(zip(widths[:-1], channels, strict=True))
            ]
        )
        self.hidden = _linear(channels[-1], feature_size, rngs)
        self.head = _linear(feature_size, outputs, rngs)

    def __call__(self, x: Clip) -> tuple[Features, Array]:
        """Features [b, d], as of :class:`Classifier`, and outputs [b, k]."""
        detailed = with_detail(_folded(x)).reshape(*x.shape[:-1], -1)
        x = jnp.concatenate([detailed, with_motion(x)], axis=-1)
        for stage in self.stages:
            x = stage(x)
        features = nnx.gelu(self.hidden(x.mean(axis=(1, 2, 3))))
        return features, self.head(features)


def with_motion(x: Clip) -> Clip:
    """Each frame minus the one before it; 0 for the first."""
    return x - jnp.concatenate([x[:, :1], x[:, :-1]], axis=1)


def with_detail(x: Image) -> Float[Array, "b h w more"]:
    """The image x and DETAIL · (x − its 3×3 binomial mean), edges repeated: [b, h, w, 2c].

    The mean colour dominates what group norm normalises; without this input, few hundred steps do
    not suffice to see slight blur or noise in photographs.
    """
    low = _smoothed(_smoothed(x, axis=1), axis=2)
    return jnp.concatenate([x, DETAIL * (x - low)], axis=-1)


def _smoothed(x: Image, axis: int) -> Image:
    """The binomial mean (1, 2, 1) / 4 along an axis."""
    pad = [(1, 1) if one == axis else (0, 0) for one in range(x.ndim)]
    padded, size = jnp.pad(x, pad, "edge"), x.shape[axis]
    left, middle, right = (
        jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(3)
    )
    return 0.25 * left + 0.5 * middle + 0.25 * right


class Stage(nnx.Module):
    """Two convolutions; the first may halve the size."""

    def __init__(self, width: int, out: int, *, stride: int, rngs: nnx.Rngs) -> None:
        """From ``width`` to ``out`` channels."""
        self.down, self.down_norm = _conv(width, out, stride, rngs), _norm(out, rngs)
        self.conv, self.conv_norm = _conv(out, out, 1, rngs), _norm(out, rngs)

    def __call__(self, x: Image) -> Float[Array, "b down_h down_w out"]:
        """[b, h, w, width] to [b, ceil(h / stride), ceil(w / stride), out]."""
        x = nnx.gelu(self.down_norm(self.down(x)))
        return nnx.gelu(self.conv_norm(self.conv(x)))


class ClipStage(nnx.Module):
    """A 3×3 convolution of each frame, one of 3 frames, and another 3×3; the first two may halve.

    All are convolutions of images, because those of clips are slow on processors.
    """

    def __init__(self, width: int, out: int, *, stride: int, rngs: nnx.Rngs) -> None:
        """From ``width`` to ``out`` channels."""
        self.space, self.space_norm = _conv(width, out, stride, rngs), _norm(out, rngs)
        self.time = _conv(out, out, (stride, 1), rngs, (3, 1))
        self.time_norm = _norm(out, rngs)
        self.conv, self.conv_norm = _conv(out, out, 1, rngs), _norm(out, rngs)

    def __call__(self, x: Clip) -> Float[Array, "b down_f down_h down_w out"]:
        """[b, f, h, w, width] to [b, ceil(f / s), ceil(h / s), ceil(w / s), out] of stride s."""
        batch, frames = x.shape[:2]
        x = self.space(_folded(x))
        height, width, channels = x.shape[1:]
        x = nnx.gelu(self.space_norm(x.reshape(batch, frames, height, width, channels)))
        x = self.time(x.reshape(batch, frames, height * width, channels))
        x = nnx.gelu(self.time_norm(x.reshape(batch, -1, height, width, channels)))
        x = self.conv(_folded(x)).reshape(x.shape)
        return nnx.gelu(self.conv_norm(x))


def _folded(x: Clip) -> Float[Array, "frames h w c"]:
    """All frames as images, [b f, h, w, c]."""
    return x.reshape(-1, *x.shape[2:])


# Full float32 everywhere: the reduced precision of accelerators changes features by 5e-4.
def _conv(
    width: int,
    out: int,
    stride: int | tuple[int, int],
    rngs: nnx.Rngs,
    size: tuple[int, int] = (3, 3),
) -> nnx.Conv:
    return nnx.Conv(
        width,
        out,
        size,
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
