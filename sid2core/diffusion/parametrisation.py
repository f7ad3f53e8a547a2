"""The variance-preserving process and what a network may predict of it.

z = alpha x + sigma eps with alpha^2 = sigmoid(lam) and sigma^2 = sigmoid(-lam); v = alpha eps -
sigma x is the third coordinate. Any of x, eps, v gives the other two once z is known.

Everything is computed and returned in float32 (float64 stays float64). Over log-SNR [-20, 20]
every conversion is within 1e-5, in norm, of the float64 conversion of the same inputs. The rounding
of the inputs themselves remains: an x computed from eps has that of z and eps divided by alpha, and
an eps computed from x has that of z and x divided by sigma.
"""

from enum import StrEnum
from typing import NoReturn

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.typing import Array, LogSnr, Samples

__all__ = [
    "Prediction",
    "alpha_sigma",
    "diffuse",
    "eps_from_v",
    "eps_from_x",
    "per_example",
    "v_from_eps",
    "v_from_x",
    "velocity",
    "widen",
    "x_from",
    "x_from_eps",
    "x_from_v",
]


class Prediction(StrEnum):
    """What the network's output means."""

    V = "v"
    EPS = "eps"
    X = "x"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        choices = ", ".join(cls)
        raise ValueError(f"prediction is {value!r}, expected one of {choices}")


def alpha_sigma(logsnr: ArrayLike) -> tuple[Array, Array]:
    """``alpha = sqrt(sigmoid(lam)), sigma = sqrt(sigmoid(-lam))``, of lam's shape.

    Relative error below 1e-5 for lam in [-20, 20] in float32.
    """
    logsnr = widen(logsnr)
    # By softplus, because a backend may compute a sigmoid from tanh, which loses its tail.
    return jnp.exp(-0.5 * jax.nn.softplus(-logsnr)), jnp.exp(-0.5 * jax.nn.softplus(logsnr))


def diffuse(x: Samples, eps: Samples, logsnr: LogSnr) -> Samples:
    """``z = alpha x + sigma eps``: data x [b, …] under noise eps [b, …] at log-SNR [b]."""
    alpha, sigma = _coefficients(logsnr, x)
    return alpha * widen(x) + sigma * widen(eps)


def velocity(x: Samples, eps: Samples, logsnr: LogSnr) -> Samples:
    """``v = alpha eps - sigma x``: the target of a network that predicts v.

    Relative error below 1e-6. Solving for v from z, as :func:`v_from_eps` does, divides the
    rounding of z by alpha: 1e-4 where SiD2's schedule for 512² begins.
    """
    alpha, sigma = _coefficients(logsnr, x)
    return alpha * widen(eps) - sigma * widen(x)


def x_from_v(z: Samples, v: Samples, logsnr: LogSnr) -> Samples:
    """``x = alpha z - sigma v``."""
    alpha, sigma = _coefficients(logsnr, z)
    return alpha * widen(z) - sigma * widen(v)


def eps_from_v(z: Samples, v: Samples, logsnr: LogSnr) -> Samples:
    """``eps = sigma z + alpha v``."""
    alpha, sigma = _coefficients(logsnr, z)
    return sigma * widen(z) + alpha * widen(v)


def x_from_eps(z: Samples, eps: Samples, logsnr: LogSnr) -> Samples:
    """``x = (z - sigma eps) / alpha``."""
    alpha, sigma = _coefficients(logsnr, z)
    return _solve(z, eps, sigma, alpha)


def v_from_eps(z: Samples, eps: Samples, logsnr: LogSnr) -> Samples:
    """``v = (eps - sigma z) / alpha``."""
    alpha, sigma = _coefficients(logsnr, z)
    return _solve(eps, z, sigma, alpha)


def eps_from_x(z: Samples, x: Samples, logsnr: LogSnr) -> Samples:
    """``eps = (z - alpha x) / sigma``."""
    alpha, sigma = _coefficients(logsnr, z)
    return _solve(z, x, alpha, sigma)


def v_from_x(z: Samples, x: Samples, logsnr: LogSnr) -> Samples:
    """``v = (alpha z - x) / sigma``."""
    alpha, sigma = _coefficients(logsnr, z)
    return -_solve(x, z, alpha, sigma)


def x_from(prediction: Prediction | str, z: Samples, output: Samples, logsnr: LogSnr) -> Samples:
    """x_hat from the network's output.

    Args:
        prediction: ``v``, ``eps`` or ``x``: what the output means.
        z: noised examples [b, …].
        output: the network's output, of z's shape.
        logsnr: log-SNR of each example [b].

    Returns:
        The predicted clean examples, of z's shape.
    """
    match Prediction(prediction):
        case Prediction.V:
            return x_from_v(z, output, logsnr)
        case Prediction.EPS:
            return x_from_eps(z, output, logsnr)
        case Prediction.X:
            return widen(output)


def per_example(values: Array, like: Array) -> Array:
    """One value per example, [b], shaped [b, 1, …] to multiply an array ``like`` [b, …].

    Raises:
        ValueError: if there is not exactly one value for each example.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(
            f"one value per example is needed: found shape {values.shape} for examples of shape "
            f"{like.shape}, expected {like.shape[:1]}; broadcast a scalar with jnp.full"
        )
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def widen(values: ArrayLike) -> Array:
    """Float32, unless the values are float64 already: sums and small differences need it."""
    array = jnp.asarray(values)
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)


def _coefficients(logsnr: LogSnr, like: Samples) -> tuple[Array, Array]:
    alpha, sigma = alpha_sigma(logsnr)
    return per_example(alpha, like), per_example(sigma, like)


def _solve(a: Samples, b: Samples, scale: Array, divisor: Array) -> Samples:
    """``(a - scale b) / divisor`` where scale^2 + divisor^2 = 1.

    A small divisor would amplify the rounding of a scale near one. There 1 - scale is taken as
    divisor^2 / (1 + scale), which is exact: a - scale b = (a - b) + (1 - scale) b.
    """
    a, b = widen(a), widen(b)
    near_one = scale > divisor
    rest = jnp.where(near_one, -jnp.square(divisor) / (1.0 + scale), scale)
    return (a - near_one.astype(b.dtype) * b - rest * b) / divisor
