"""Operations of the network in forms that are fast on CPU, chosen when a program is lowered.

What is lowered for another device, on a machine without one too, has the library's own form. The
numbers are the same to rounding. What each form saves on CPU:

- The gradient of a convolution's kernel: XLA rewrites it into a form its CPU backend runs fast, but
  only outside of loops: inside ``scan`` the same gradient is 20 to 40 times slower. Here it is
  written in the fast form to begin with (``python -m benchmarks.train_loop``).
- The convolution of clips: its gradient along three axes takes more than twice as long as the same
  products along two axes with the neighbouring frames as channels (``python -m
  benchmarks.convolution``).
- The product of a linear layer with all positions in one axis: summed over several axes, the
  kernel's gradient takes up to twice as long, since XLA transposes both operands first. This form
  is as good elsewhere.
- The groups of GroupNorm spread over their channels by a product with ones and zeros: a broadcast
  becomes part of the loop over all elements, which XLA then does not vectorise (for swish after
  norm and FiLM, a factor of seven).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from sid2core.models.bilinear import Product, bilinear
from sid2core.typing import Array

PRODUCT = "product"
"""The name of results of linear layers and convolutions in policies of recomputation."""


def convolve(lhs: Array, rhs: Array, window_strides: Sequence[int], padding: Any, **options: Any):
    """``lax.conv_general_dilated`` for :class:`flax.nnx.Conv`, on CPU in the forms above.

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
    if not plain or options.get("feature_group_count", 1) != 1:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    return checkpoint_name(_images(lhs, rhs) if lhs.ndim == 4 else _clips(lhs, rhs), PRODUCT)


def product(x: Array, kernel: Array, numbers: Any, **options: Any) -> Array:
    """``lax.dot_general`` for :class:`flax.nnx.Linear`, all positions in one axis.

    Args:
        x: inputs [..., c_in].
        kernel: [c_in, c_out].
        numbers: the last axis of ``x`` with the first of ``kernel``.
        options: what nnx.Linear hands on.
    """
    del numbers
    rows = x.reshape(-1, x.shape[-1])
    y = lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return checkpoint_name(y.reshape(*x.shape[:-1], -1), PRODUCT)


def spread(groups: Array, channels: int) -> Array:
    """One value for each group to one for each of its channels: [..., g] to [..., channels]."""
    each = channels // groups.shape[-1]

    def by_product(groups: Array) -> Array:
        ones = np.repeat(np.eye(groups.shape[-1], dtype=np.float32), each, axis=1)
        return jnp.matmul(groups, ones, precision=lax.Precision.HIGHEST)

    def by_broadcast(groups: Array) -> Array:
        return jnp.repeat(groups, each, axis=-1)

    return lax.platform_dependent(groups, cpu=by_product, default=by_broadcast)


def _library(x: Array, kernel: Array) -> Array:
    return _convolution(x, kernel, "SAME")


def _images_by_x(x: Array, kernel: Array, dy: Array) -> Array:
    """The convolution of dy with the kernel turned round."""

    def turned(kernel: Array, dy: Array) -> Array:
        window = tuple(range(kernel.ndim - 2))
        return _convolution(dy, jnp.flip(kernel, window).swapaxes(-1, -2), "SAME")

    def library(kernel: Array, dy: Array) -> Array:
        return _transposed(lambda x: _library(x, kernel), x, dy)

    return lax.platform_dependent(kernel, dy, cpu=turned, default=library)


def _images_by_kernel(x: Array, kernel: Array, dy: Array) -> Array:
    """``dkernel[q, i, o] = sum_{b, p} x[b, p + q - half, i] dy[b, p, o]``.

    An ordinary convolution too, of inputs whose batch is i and channels are b, with dy as the
    window.
    """
    half = [(size // 2,) * 2 for size in kernel.shape[:-2]]

    def ordinary(x: Array, dy: Array) -> Array:
        as_kernel = jnp.moveaxis(dy, 0, -2)
        return jnp.moveaxis(_convolution(jnp.swapaxes(x, 0, -1), as_kernel, half), 0, -2)

    def library(x: Array, dy: Array) -> Array:
        return _transposed(lambda kernel: _library(x, kernel), kernel, dy)

    return lax.platform_dependent(x, dy, cpu=ordinary, default=library)


_images = bilinear(_library, _images_by_x, _images_by_kernel)
"""``y[b, p, o] = sum_{q, i} x[b, p + q - half, i] kernel[q, i, o]``, zero outside."""


def _by_frames(x: Array, kernel: Array) -> Array:
    """The convolution along (frames, height, width), as one along (height, width).

    Each frame's input is the channels of all frames that the kernel covers there.
    """
    batch, frames, height, width, _ = x.shape
    taps, out = kernel.shape[0], kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (taps // 2,) * 2, (0, 0), (0, 0), (0, 0)))
    covered = jnp.concatenate([padded[:, tap : tap + frames] for tap in range(taps)], axis=-1)
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, out)
    images = _images(covered.reshape(batch * frames, height, width, -1), flat)
    return images.reshape(batch, frames, height, width, out)


def _clips_form(x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(x, kernel, cpu=_by_frames, default=_library)


def _clips_by_x(x: Array, kernel: Array, dy: Array) -> Array:
    def of(form: Product) -> Product:
        return lambda kernel, dy: _transposed(lambda x: form(x, kernel), x, dy)

    return lax.platform_dependent(kernel, dy, cpu=of(_by_frames), default=of(_library))


def _clips_by_kernel(x: Array, kernel: Array, dy: Array) -> Array:
    def of(form: Product) -> Product:
        return lambda x, dy: _transposed(lambda kernel: form(x, kernel), kernel, dy)

    return lax.platform_dependent(x, dy, cpu=of(_by_frames), default=of(_library))


_clips = bilinear(_clips_form, _clips_by_x, _clips_by_kernel)
"""The same along (frames, height, width)."""


def _transposed(linear: Callable[[Array], Array], like: Array, dy: Array) -> Array:
    """The transpose of ``linear`` for arguments of the shape and type of ``like``."""
    (found,) = jax.linear_transpose(linear, jax.ShapeDtypeStruct(like.shape, like.dtype))(dy)
    return found


def _convolution(x: Array, kernel: Array, padding: Any) -> Array:
    ranks = x.ndim - 2
    axes = string.digits[:ranks]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_general_dilated(x, kernel, (1,) * ranks, padding, dimension_numbers=numbers)
