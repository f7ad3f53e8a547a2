"""The 3×3 (×3) convolution, in the forms that are fast on CPU.

XLA rewrites the gradient of a convolution's kernel into a form its CPU backend runs fast, but only
outside of loops: inside ``scan`` the same gradient is 20 to 40 times slower. Here that gradient is
written in the fast form to begin with. Of clips, its gradient along three axes takes more than
twice as long as the same products along two axes with the neighbouring frames as channels, which is
how both are computed here (``python -m benchmarks.convolution`` measures them).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sid2core.typing import Array


def convolve(lhs: Array, rhs: Array, window_strides: Sequence[int], padding: Any, **options: Any):
    """``lax.conv_general_dilated`` for :class:`flax.nnx.Conv`, on CPU with the gradient above.

    Args:
        lhs: inputs [b, *spatial, c_in].
        rhs: kernel [*window, c_in, c_out]; its sides are odd.
        window_strides: all 1.
        padding: ``SAME``.
        options: what nnx.Conv hands on: no dilation, no groups.
    """
    plain = padding == "SAME" and set(window_strides) == {1}
    dilations = (options.get("lhs_dilation"), options.get("rhs_dilation"))
    plain &= all(set(one or (1,)) == {1} for one in dilations)
    if jax.default_backend() != "cpu" or not plain or options.get("feature_group_count", 1) != 1:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    return _same(lhs, rhs) if lhs.ndim == 4 else _by_frames(lhs, rhs)


def _by_frames(x: Array, kernel: Array) -> Array:
    """The convolution along (frames, height, width), as one along (height, width).

    Each frame's input is the channels of all frames that the kernel covers there.
    """
    batch, frames, height, width, _ = x.shape
    taps, out = kernel.shape[0], kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (taps // 2,) * 2, (0, 0), (0, 0), (0, 0)))
    covered = jnp.concatenate([padded[:, tap : tap + frames] for tap in range(taps)], axis=-1)
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, out)
    images = _same(covered.reshape(batch * frames, height, width, -1), flat)
    return images.reshape(batch, frames, height, width, out)


@jax.custom_vjp
def _same(x: Array, kernel: Array) -> Array:
    """``y[b, p, o] = sum_{q, i} x[b, p + q - half, i] kernel[q, i, o]``, zero outside."""
    return _convolution(x, kernel, "SAME")


def _same_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _same(x, kernel), (x, kernel)


def _same_backward(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """dx: the convolution of dy with the kernel turned round.

    dkernel[q, i, o] = sum_{b, p} x[b, p + q - half, i] dy[b, p, o]: an ordinary convolution too,
    of inputs whose batch is i and channels are b, with dy as the window.
    """
    x, kernel = kept
    window = range(kernel.ndim - 2)
    dx = _convolution(dy, jnp.flip(kernel, tuple(window)).swapaxes(-1, -2), "SAME")
    half = [(kernel.shape[axis] // 2,) * 2 for axis in window]
    turned = jnp.swapaxes(x, 0, -1)
    as_kernel = jnp.moveaxis(dy, 0, -2)
    dkernel = jnp.moveaxis(_convolution(turned, as_kernel, half), 0, -2)
    return dx, dkernel


_same.defvjp(_same_forward, _same_backward)


def _convolution(x: Array, kernel: Array, padding: Any) -> Array:
    ranks = x.ndim - 2
    axes = string.digits[:ranks]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_general_dilated(x, kernel, (1,) * ranks, padding, dimension_numbers=numbers)
