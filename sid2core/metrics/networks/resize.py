"""Resizes of raw images as in the published metrics; the choice changes the numbers.

``tf1``: bilinear as in TensorFlow 1, source = i · in / out, without half pixel or antialias.
``torch``: bilinear as in ``F.interpolate``, source = (i + ½) in / out - ½; no antialias.
``clean``: Pillow's bicubic with antialias, channel by channel in float, clipped to [0, 255].

None of them rounds. Sources: tensorflow ``image_resizer_state.h``; PyTorch ``UpSample.h``;
arXiv 2104.11222 (clean-fid).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core.metrics.errors import MetricsError

Matrix = NDArray[np.float32]


def resize(images: jax.Array | NDArray[Any], size: int, mode: str) -> Any:
    """Square colour images, float32 [n, size, size, 3] in [0, 255], of raw ones.

    Grey images are repeated to three channels. The two linear modes work on the devices that hold
    the images, sharded or not; ``clean`` works on the host.

    Args:
        images: uint8 [n, h, w, c], with 1 or 3 channels; n may be 0.
        size: height and width of the result.
        mode: one of :data:`MODES`.

    Raises:
        MetricsError: other images, or an unknown mode.
    """
    if mode not in MODES:
        msg = f"unknown resize {mode!r}; expected one of {', '.join(MODES)}"
        raise MetricsError(msg)
    check_images(images)
    return MODES[mode](images, size, mode)


def check_images(images: jax.Array | NDArray[Any]) -> None:
    """Check that images are raw.

    Raises:
        MetricsError: other than uint8 of [n, h, w, c] with 1 or 3 channels, h and w at least 1.
    """
    good = images.ndim == 4 and images.shape[-1] in (1, 3) and min(images.shape[1:3]) > 0
    if images.dtype != np.uint8 or not good:
        msg = (
            f"images are {images.dtype} of shape {images.shape}; expected uint8 of [n, h, w, c] "
            "with 1 or 3 channels: round samples to whole values from 0 to 255 first"
        )
        raise MetricsError(msg)


def linear(images: jax.Array | NDArray[Any], size: int, mode: str) -> jax.Array:
    """:func:`resize` in the mode ``tf1`` or ``torch``, of images of any type of number."""
    _, height, width, _ = images.shape
    return _contracted(images, matrix(mode, height, size), matrix(mode, width, size))


@jax.jit
def _contracted(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """[n, h, w, c] by [p, h] and [q, w] to colours [n, p, q, 3], in full float32."""
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("qw,nhwc->nhqc", columns, images.astype(jnp.float32), precision=exact)
    x = jnp.einsum("ph,nhqc->npqc", rows, x, precision=exact)
    return x if x.shape[-1] == 3 else jnp.repeat(x, 3, axis=-1)


@functools.lru_cache(maxsize=64)
def matrix(mode: str, size: int, out: int) -> Matrix:
    """The weights [out, size] of a linear resize of one axis, rounded as in the frameworks.

    Both compute the position in the source in float32, interpolate between the two pixels around
    it, and repeat the last pixel beyond the edge.
    """
    step = np.float64(np.float32(size / out))
    # Computed in float64 and rounded once, like the fused multiply-add that PyTorch uses.
    exact = step * np.arange(out) if mode == "tf1" else step * (np.arange(out) + 0.5) - 0.5
    place = np.maximum(exact, 0).astype(np.float32)
    first = np.minimum(place.astype(np.int32), size - 1)
    fraction = place - first.astype(np.float32)
    weights = np.zeros((out, size), np.float32)
    every = np.arange(out)
    weights[every, first] = 1 - fraction
    # Added, because beyond the edge both are the last pixel.
    weights[every, np.minimum(first + 1, size - 1)] += fraction
    return weights


def _clean(images: jax.Array | NDArray[np.uint8], size: int, _: str) -> Matrix:
    resized = np.empty((*images.shape[:1], size, size, 3), np.float32)
    for image, out in zip(np.asarray(images, np.float32), resized, strict=True):
        planes = [Image.fromarray(image[..., channel]) for channel in range(image.shape[-1])]
        bicubic = (plane.resize((size, size), Image.Resampling.BICUBIC) for plane in planes)
        out[...] = np.stack([*map(np.asarray, bicubic)], axis=-1)  # a grey one becomes all three
    return resized.clip(0, 255)


MODES: dict[str, Callable[[Any, int, str], Any]] = {
    "tf1": linear,
    "torch": linear,
    "clean": _clean,
}
