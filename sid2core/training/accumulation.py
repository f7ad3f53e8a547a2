"""A batch in parts, one after another, for batches whose activations do not fit into memory.

The parts run in one ``scan``: written out, XLA may compute several at once, and nothing is saved.
On CPU a convolution's gradient is slow inside of loops; the network's own is written not to be
(:mod:`sid2core.models.cpu_forms`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Array, Scalar

Scalars = dict[str, Scalar]
"""Scalars that a loss returns beside its value; each is a mean over rows, too."""


def in_parts(batch: Any, parts: int) -> Any:
    """Arrays [b, …] → [parts, b / parts, …]; part i has the rows i, i + parts and so on.

    Rows in turn, not in runs: so each part is as mixed as the whole, its times spread evenly, and
    on a mesh no row changes its device.
    """
    return jax.tree.map(
        lambda one: jnp.moveaxis(one.reshape(-1, parts, *one.shape[1:]), 1, 0), batch
    )


def mean_and_gradient(
    loss: Callable[[Any, Any, Array], tuple[Scalar, Scalars]],
    params: Any,
    batch: Any,
    parts: int,
    layout: Layout = ONE_DEVICE,
) -> tuple[tuple[Scalar, Scalars], Any]:
    """The mean of ``loss(params, part, index)`` over the parts of ``batch``, and its gradient.

    A loss that is a mean over rows has the value and the gradient that the whole batch has, up to
    rounding; so have the scalars beside it. Gradients are summed divided over devices as
    ``layout`` says.
    """

    def one(part: Any, index: Array) -> tuple[tuple[Scalar, Scalars], Any]:
        value, gradient = jax.value_and_grad(loss, has_aux=True)(params, part, index)
        return value, layout.reshard(gradient)

    if parts == 1:
        return one(batch, jnp.int32(0))

    def add(total: Any, numbered: tuple[Array, Any]) -> tuple[Any, None]:
        index, part = numbered
        return jax.tree.map(jnp.add, total, one(part, index)), None

    numbered = (jnp.arange(parts), in_parts(batch, parts))
    first = jax.tree.map(lambda one: one[0], numbered[1])
    shapes = jax.eval_shape(loss, params, first, jnp.int32(0))
    nothing = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)
    zero = (nothing, layout.reshard(jax.tree.map(jnp.zeros_like, params)))
    total, _ = jax.lax.scan(add, zero, numbered)
    return jax.tree.map(lambda one: one / parts, total)
