"""Products whose gradients are written by hand.

A :func:`jax.custom_vjp` cannot be differentiated forward, which moment matching in parameter space
does (:mod:`sid2core.distillation.parameter_space`). Here only the transposes are custom.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.custom_derivatives import linear_call

from sid2core.typing import Array

Product = Callable[[Array, Array], Array]
Gradient = Callable[[Array, Array, Array], Array]


def bilinear(form: Product, by_x: Gradient, by_y: Gradient) -> Product:
    """``form``, differentiable forward and backward with the gradients given.

    Args:
        form: z = form(x, y), linear in x and in y.
        by_x: (x, y, dz) → the gradient in x; of x it may use shape and type alone.
        by_y: (x, y, dz) → the gradient in y; of y it may use shape and type alone.
    """
    product = jax.custom_jvp(form)

    def along_x(dx: Array, _: Array, x: Array, y: Array) -> Array:
        return linear_call(lambda y, dx: product(dx, y), lambda y, dz: by_x(x, y, dz), y, dx)

    def along_y(dy: Array, _: Array, x: Array, y: Array) -> Array:
        return linear_call(product, lambda x, dz: by_y(x, y, dz), x, dy)

    product.defjvps(along_x, along_y)
    return product
