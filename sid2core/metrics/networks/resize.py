"""Resizes of raw images as the published metrics do them: which one decides the numbers.

``tf1``: bilinear as TensorFlow 1 has it, source = i · in / out, so no half pixel; no antialias.
``torch``: bilinear as ``F.interpolate`` has it, source = (i + ½) in / out - ½; no antialias.
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


def resize(images: jax.Array | NDArray[np.uint8], size: int, mode: str) -> Any:
    """Square colour images, float32 [n, size, size, 3] in [0, 255], of raw ones.

    Grey images are repeated to three channels. The two linear modes work where the images are:
    arrays on devices stay there, and stay sharded; ``clean`` works on the host.

    Args:
        images: uint8 [n, h, w, c], with 1 or 3 channels; n may be 0.
        size: height and width to come.
        mode: one of :data:`MODES`.

    Raises:
        MetricsError: other images, or an unknown mode.
    """
    if mode not in MODES:
        msg = f"unknown resize {mode!r}; one of {', '.join(MODES)} is needed"
        raise MetricsError(msg)
    check_images(images)
    return MODES[mode](images, size, mode)


def check_images(images: jax.Array | NDArray[Any]) -> None:
    """Refuse what are no raw images.

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


def _linear(images: jax.Array | NDArray[np.uint8], size: int, mode: str) -> jax.Array:
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
def matrix(mode: str, found: int, wanted: int) -> Matrix:
    """The weights [wanted, found] of a linear resize of one axis, as the frameworks round them.

    Both compute a place in the source in float32, mix the two pixels around it by its fraction,
    and repeat the last pixel beyond the edge.
    """
    step = np.float64(np.float32(found / wanted))
    # Reckoned in float64 and rounded once: so rounds a fused multiply-add, which PyTorch uses.
    exact = step * np.arange(wanted) if mode == "tf1" else step * (np.arange(wanted) + 0.5) - 0.5
    place = np.maximum(exact, 0).astype(np.float32)
    first = np.minimum(place.astype(np.int32), found - 1)
    fraction = place - first.astype(np.float32)
    weights = np.zeros((wanted, found), np.float32)
    every = np.arange(wanted)
    weights[every, first] = 1 - fraction
    # Added, for beyond the edge both are the last pixel.
    weights[every, np.minimum(first + 1, found - 1)] += fraction
    return weights


def _clean(images: jax.Array | NDArray[np.uint8], size: int, _: str) -> Matrix:
    resized = np.empty((*images.shape[:1], size, size, 3), np.float32)
    for image, out in zip(np.asarray(images, np.float32), resized, strict=True):
        planes = [Image.fromarray(image[..., channel]) for channel in range(image.shape[-1])]
        bicubic = (plane.resize((size, size), Image.Resampling.BICUBIC) for plane in planes)
        out[...] = np.stack([*map(np.asarray, bicubic)], axis=-1)  # a grey one becomes all three
    return resized.clip(0, 255)


MODES: dict[str, Callable[[Any, int, str], Any]] = {
    "tf1": _linear,
    "torch": _linear,
    "clean": _clean,
}
