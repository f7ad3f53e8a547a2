"""Loss weightings: how much each noise level counts.

Every weight here multiplies the error in eps, whatever the network predicts: the loss is
E_t[1/2 (-lam'(t)) w(lam) mean((eps - eps_hat)^2)], and the ELBO is w = 1.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sid2core.diffusion import lowbit
from sid2core.diffusion.parametrisation import widen
from sid2core.typing import Array

__all__ = [
    "EDM_PEAK",
    "EdmMonotonicWeighting",
    "EdmWeighting",
    "ElboWeighting",
    "LowBitWeighting",
    "SigmoidWeighting",
    "TimeShiftedBias",
    "Weighting",
    "bias_at",
    "bias_of",
    "edm",
    "edm_monotonic",
    "edm_resolution_shift",
    "elbo",
    "low_bit_mixture",
    "sigmoid",
]

_EDM_MEAN = 2.4
_EDM_STD = 2.4
"""In EDM log sigma ~ N(-1.2, 1.2^2), and log-SNR = -2 log sigma (arXiv 2206.00364)."""
_EDM_DATA_VARIANCE = 0.25
"""EDM's sigma_data is 0.5."""

EDM_PEAK = -3.3077775
"""arg max of :func:`edm`: the root of (lam - 2.4) / 2.4^2 + 1 / (1 + e^lam / 4) = 0."""


def sigmoid(
    logsnr: ArrayLike, bias: ArrayLike | TimeShiftedBias, step: ArrayLike | None = None
) -> Array:
    """``w(lam) = 1 / (1 + e^(lam - b))``: all weight far below log-SNR b, none far above it.

    SiD2 supplement B.1. Bias 0 suits 128², -1 256², -3 512²; a bias that moves needs the step.
    """
    return jax.nn.sigmoid(jnp.asarray(bias_at(bias, step), jnp.float32) - widen(logsnr))


def edm(logsnr: ArrayLike, shift: float = 0.0) -> Array:
    """``w(lam) = N(lam - s; 2.4, 2.4^2) (e^(s - lam) + 0.25)``: EDM's weighting, for the eps error.

    arXiv 2206.00364 in the terms of arXiv 2303.00848. The shift s moves it to another
    resolution, see :func:`edm_resolution_shift`.
    """
    lam = widen(logsnr) - shift
    normaliser = math.log(_EDM_STD * math.sqrt(2.0 * math.pi))
    log_normal = -0.5 * jnp.square((lam - _EDM_MEAN) / _EDM_STD) - normaliser
    return jnp.exp(log_normal + jnp.logaddexp(-lam, math.log(_EDM_DATA_VARIANCE)))


def edm_monotonic(logsnr: ArrayLike, shift: float = 0.0) -> Array:
    """``w(lam) = edm(max(lam - s, lam*)), lam* = arg max edm = -3.308``: EDM's, made monotone.

    arXiv 2303.00848; the baseline of SiD2 supplement C.1.
    """
    return edm(jnp.maximum(widen(logsnr) - shift, EDM_PEAK))


def edm_resolution_shift(image_size: int) -> float:
    """``s = 2 log(64 / image_size)``: EDM was tuned at 64², larger images need more noise."""
    return 2.0 * math.log(64 / image_size)


def elbo(logsnr: ArrayLike) -> Array:
    """``w(lam) = 1``: the unweighted evidence bound (arXiv 2107.00630)."""
    return jnp.ones_like(widen(logsnr))


def low_bit_mixture(
    logsnr: ArrayLike,
    bits: tuple[int, ...] = (8, 7, 6, 5),
    proportions: tuple[float, ...] = (1.0, 4.0, 4.0, 6.0),
    image_size: int = 1,
) -> Array:
    """``w(lam) = sum_n p_n E_n(lam) / E_8(lam)``: the weighting that low-bit training implies.

    E_n is the optimal model's eps-error on n-bit data (:func:`lowbit.eps_error`) and p the
    proportions, made to sum to one. Unweighted training on a mixture of precisions has the loss
    sum_n p_n E_n at each noise level; training on the 8-bit data alone has the same loss if
    weighted by w. SiD2 supplement A, Figure 12, shows it beside w = sigmoid(10.7 - lam).

    E_n is that of a single value. Averaged over an image of d x d pixels the SNR is d^2 times
    higher, so for images w is read at lam + 2 log d, as the paper turns its sigmoid(1 - lam) at
    128² into sigmoid(10.7 - lam) for the single value.

    The limits: sum_n p_n Var_n / Var_8 in pure noise, because coarser data vary a little more, and
    p_8 towards data, where only the eighth bit is uncertain.

    Args:
        logsnr: log-SNR, of any shape.
        bits: the precisions mixed.
        proportions: how often each occurs, in any unit.
        image_size: height d of the images that the log-SNR is meant for; 1 is a single value.

    Returns:
        Weight of logsnr's shape, interpolated from a float64 table.
    """
    levels, weights = _low_bit_table(tuple(bits), tuple(proportions))
    lam = widen(logsnr) + 2.0 * math.log(image_size)
    return jnp.interp(lam, jnp.asarray(levels, lam.dtype), jnp.asarray(weights, lam.dtype))


@dataclass(frozen=True)
class TimeShiftedBias:
    """``b(step) = start + (end - start) clip(step / steps, 0, 1)``: it moves in training.

    SiD2 supplement C.2: from -8 or -6 to -3 over 100k steps.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse a change that takes no steps."""
        if self.steps < 1:
            raise ValueError(
                f"steps is {self.steps}, expected at least 1; for a constant bias give the number"
            )

    def __call__(self, step: ArrayLike) -> Array:
        """The bias at a training step, float32."""
        progress = jnp.clip(jnp.asarray(step, jnp.float32) / self.steps, 0.0, 1.0)
        return self.start + (self.end - self.start) * progress


def bias_of(settings: Any) -> float | TimeShiftedBias:
    """The bias of parameters ``bias``, ``bias_start`` and ``bias_steps`` (the latter or null)."""
    if settings.bias_start is None:
        bias: float = settings.bias
        return bias
    return TimeShiftedBias(settings.bias_start, settings.bias, settings.bias_steps)


def bias_at(bias: ArrayLike | TimeShiftedBias, step: ArrayLike | None = None) -> ArrayLike:
    """The bias at a training step, whether it moves or is constant.

    Raises:
        TypeError: if it moves and no step is given.
    """
    if not isinstance(bias, TimeShiftedBias):
        return bias
    if step is None:
        raise TypeError(
            f"{bias} moves during training and no step is given: call it with the training step, "
            "bias(step), or use SigmoidWeighting(bias) or PowerLoss(bias, levels)"
        )
    return bias(step)


@runtime_checkable
class Weighting(Protocol):
    """The weight on the eps error as a function of log-SNR [b] and the training step."""

    def __call__(self, logsnr: Array, step: ArrayLike) -> Array:
        """Weight of each example [b]."""
        ...


@dataclass(frozen=True)
class SigmoidWeighting:
    """``w = sigmoid(b - lam)``, the bias a number or a :class:`TimeShiftedBias`."""

    bias: float | TimeShiftedBias

    def __call__(self, logsnr: Array, step: ArrayLike) -> Array:
        """Weight of each example [b]."""
        return sigmoid(logsnr, self.bias, step)


@dataclass(frozen=True)
class EdmWeighting:
    """``w = edm(lam - shift)``."""

    shift: float = 0.0

    def __call__(self, logsnr: Array, step: ArrayLike) -> Array:
        """Weight of each example [b]."""
        return edm(logsnr, self.shift)


@dataclass(frozen=True)
class EdmMonotonicWeighting:
    """``w = edm_monotonic(lam - shift)``."""

    shift: float = 0.0

    def __call__(self, logsnr: Array, step: ArrayLike) -> Array:
        """Weight of each example [b]."""
        return edm_monotonic(logsnr, self.shift)


@dataclass(frozen=True)
class ElboWeighting:
    """``w = 1``."""

    def __call__(self, logsnr: Array, step: ArrayLike) -> Array:
        """Weight of each example [b]."""
        return elbo(logsnr)


@dataclass(frozen=True)
class LowBitWeighting:
    """``w = low_bit_mixture(lam)`` for images of a given height."""

    image_size: int
    bits: tuple[int, ...] = (8, 7, 6, 5)
    proportions: tuple[float, ...] = (1.0, 4.0, 4.0, 6.0)

    def __post_init__(self) -> None:
        """Refuse an invalid mixture."""
        _check_mixture(self.bits, self.proportions)

    def __call__(self, logsnr: Array, step: ArrayLike) -> Array:
        """Weight of each example [b]."""
        return low_bit_mixture(logsnr, self.bits, self.proportions, self.image_size)


@functools.cache
def _low_bit_table(
    bits: tuple[int, ...], proportions: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    _check_mixture(bits, proportions)
    # Outside this range both limits are reached to 1e-4, and the last value continues.
    levels = np.linspace(-10.0, 16.0, 26 * 16 + 1)
    share = np.asarray(proportions, np.float64) / math.fsum(proportions)
    losses = {n: lowbit.eps_error(n, levels) for n in {*bits, 8}}
    mixture = sum(p * losses[n] for p, n in zip(share, bits, strict=True))
    return levels, mixture / losses[8]


def _check_mixture(bits: tuple[int, ...], proportions: tuple[float, ...]) -> None:
    if not bits or len(bits) != len(proportions):
        raise ValueError(f"found bits {bits} and proportions {proportions}: expected one for each")
    if min(proportions) < 0 or math.fsum(proportions) <= 0:
        raise ValueError(f"proportions are {proportions}, expected none negative and not all zero")
    if not 1 <= min(bits) <= max(bits) <= 8:
        raise ValueError(f"bits are {bits}, expected whole numbers from 1 to 8")
