"""Multiply-adds of a traced program."""

import math


def products(jaxpr):
    """Of every matrix product and convolution, with borders, in the forms for accelerators."""
    total = 0
    for equation in jaxpr.eqns:
        for name, value in equation.params.items():
            value = value[-1] if name == "branches" else value  # of lax.platform_dependent
            inner = getattr(value, "jaxpr", value)
            total += products(inner) if hasattr(inner, "eqns") else 0
        out = equation.outvars[0].aval
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval
            total += out.size * math.prod(left.shape[axis] for axis in contracted)
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            dilation = math.prod(equation.params["lhs_dilation"])
            total += out.size * kernel.size // out.shape[-1] // dilation
    return total
