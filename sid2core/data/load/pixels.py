"""Between raw bytes and the range that models see."""

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from sid2core.typing import Array, Float, UInt8


def to_unit(images: UInt8[Array, "..."] | NDArray[np.uint8]) -> Float[Array, "..."]:
    """``u / 127.5 - 1``: bytes 0..255 to float32 in [-1, 1], on the device."""
    return jnp.asarray(images).astype(jnp.float32) / 127.5 - 1.0


def to_uint8(x: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    """``clip(round(127.5 x + 127.5), 0, 255)``, halves to even; the inverse of :func:`to_unit`."""
    return jnp.clip(jnp.round(127.5 * x + 127.5), 0.0, 255.0).astype(jnp.uint8)
