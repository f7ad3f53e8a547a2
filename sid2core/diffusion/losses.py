"""Training losses, per example: the weighted squared error and the power loss."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.diffusion.haar import subbands
from sid2core.diffusion.parametrisation import Prediction, widen
from sid2core.typing import Array, Float, LogSnr, Samples

__all__ = ["power_loss", "sigmoid_loss", "weighted_mse"]

PerExample = Float[Array, "b"]
"""One number an example."""


def weighted_mse(
    x: Samples,
    x_hat: Samples,
    logsnr: LogSnr,
    neg_dlogsnr_dt: PerExample,
    weight: PerExample,
    space: Prediction | str = Prediction.X,
) -> PerExample:
    """``L = 1/2 (-lam') w(lam) mean((eps - eps_hat)^2)``, from the error in x, v or eps.

    SiD2 supplement A, equations 6 to 8. For one z the three errors are proportional:
    (eps - eps_hat)^2 = e^lam (x - x_hat)^2 = sigmoid(lam) (v - v_hat)^2. Comparing in v, where the
    network predicts v, saves the cancellation of alpha z - sigma v against x near data.

    Args:
        x: the targets [b, …].
        x_hat: their prediction [b, …].
        logsnr: log-SNR of each example [b].
        neg_dlogsnr_dt: the schedule's -dlam/dt at the drawn times [b], which makes the expected
            loss independent of how the schedule spends its time.
        weight: w(lam), the weight on the eps error [b].
        space: what the targets are: ``x`` (the default), ``v`` or ``eps``.

    Returns:
        The loss of each example [b], float32: a mean over its elements.
    """
    match Prediction(space):
        case Prediction.X:
            log_scale = widen(logsnr)
        case Prediction.V:
            log_scale = jax.nn.log_sigmoid(widen(logsnr))
        case Prediction.EPS:
            log_scale = jnp.zeros_like(widen(logsnr))
    # e^lam alone may overflow where w e^lam does not.
    scale = jnp.exp(log_scale + jnp.log(widen(weight)))
    return 0.5 * widen(neg_dlogsnr_dt) * scale * _mean_square(widen(x) - widen(x_hat))


def sigmoid_loss(
    x: Samples,
    x_hat: Samples,
    logsnr: LogSnr,
    neg_dlogsnr_dt: PerExample,
    bias: ArrayLike,
) -> PerExample:
    """``L = -1/2 lam' e^b sigmoid(lam - b) mean((x - x_hat)^2)``: the printed sigmoid loss.

    SiD2 supplement B.1.

    Equal to :func:`weighted_mse` with w = sigmoid(b - lam), because e^lam sigmoid(b - lam) =
    e^b sigmoid(lam - b).

    Args:
        x: clean examples [b, …].
        x_hat: their prediction [b, …].
        logsnr: log-SNR of each example [b].
        neg_dlogsnr_dt: the schedule's -dlam/dt at the drawn times [b].
        bias: b, one number.

    Returns:
        The loss of each example [b], float32.
    """
    bias = jnp.asarray(bias, jnp.float32)
    scale = jnp.exp(bias) * jax.nn.sigmoid(widen(logsnr) - bias)
    return 0.5 * widen(neg_dlogsnr_dt) * scale * _mean_square(widen(x) - widen(x_hat))


def power_loss(
    error: Samples,
    logsnr: LogSnr,
    neg_dlogsnr_dt: PerExample,
    bias: ArrayLike,
    levels: int,
) -> PerExample:
    """``PL = sum_s w_s ||s||^2, w_s = sigmoid(lam + b_s) (-lam'), b_s = log(2) l(s) - b``.

    SiD2 supplement B.2: s runs over the Haar sub-bands of the error and l(s) counts the low passes
    in a sub-band's name, each of which doubles the signal-to-noise ratio. A sum over elements as
    printed, where :func:`weighted_mse` is a mean: with equal weights it is the plain squared error,
    for the transform is orthonormal. The printed weight has neither the 1/2 nor the e^b of the
    sigmoid loss: for d elements and no level split, PL is 2 d e^-b times it.

    Args:
        error: x_hat - x of images [b, h, w, c] or video [b, f, h, w, c], transformed per frame.
        logsnr: log-SNR of each example [b].
        neg_dlogsnr_dt: the schedule's -dlam/dt at the drawn times [b].
        bias: b, one number.
        levels: how often the low branch is split; height and width must divide by 2^levels.

    Returns:
        The loss of each example [b], float32.
    """
    bias = jnp.asarray(bias, jnp.float32)
    total = jnp.zeros(error.shape[:1], jnp.float32)
    for name, band in subbands(widen(error), levels).items():
        weight = jax.nn.sigmoid(widen(logsnr) + (math.log(2.0) * name.count("L") - bias))
        total = total + weight * _sum_square(band)
    return widen(neg_dlogsnr_dt) * total


def _mean_square(error: Array) -> Array:
    return jnp.mean(jnp.square(error), axis=tuple(range(1, error.ndim)))


def _sum_square(error: Array) -> Array:
    return jnp.sum(jnp.square(error), axis=tuple(range(1, error.ndim)))
