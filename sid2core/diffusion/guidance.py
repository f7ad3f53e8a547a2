"""Guidance: pushing the conditional prediction away from a negative one.

x = (1 + g) x_cond - g x_neg throughout, so "guidance 1.0" is what others call a scale of 2. The
negative is the unconditional model, or, for autoguidance, a worse one.

Guidance acts at log-SNR lam if logsnr_min < lam < logsnr_max, both ends excluded as the parentheses
in SiD2 supplement B.4 have it, where lam is that of the evaluation: of a step's start, or of its
end for the second evaluation of a sampler that has two.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.typing import ArrayLike

from sid2core.diffusion.parametrisation import per_example, widen
from sid2core.typing import LogSnr, Samples

__all__ = [
    "EVERYWHERE",
    "NEVER",
    "AutoGuidance",
    "ConstantGuidance",
    "Guidance",
    "IntervalGuidance",
    "Negative",
    "NoGuidance",
    "acts",
    "combine",
    "guided_x",
]

EVERYWHERE = (-math.inf, math.inf)
"""The interval that contains every log-SNR."""
NEVER = (math.inf, -math.inf)
"""The empty interval."""


class Negative(StrEnum):
    """What a guidance pushes away from; whoever draws samples must supply it."""

    NONE = "none"
    UNCONDITIONAL = "unconditional"
    """The same model with the null condition."""
    WORSE_MODEL = "worse_model"
    """Another model with the same condition."""
    PROMPT = "prompt"
    """The same model with another condition."""


@runtime_checkable
class Guidance(Protocol):
    """How strongly, where and away from what a sample is pushed."""

    @property
    def weight(self) -> float:
        """The strength ``g`` in ``x = (1 + g) x_cond - g x_neg``."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """The open interval of log-SNR in which guidance acts; empty if it never does."""
        ...

    @property
    def negative(self) -> Negative:
        """What to push away from."""
        ...


@dataclass(frozen=True)
class NoGuidance:
    """``x = x_cond``."""

    @property
    def weight(self) -> float:
        """0: the conditional prediction alone."""
        return 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Empty."""
        return NEVER

    @property
    def negative(self) -> Negative:
        """No second network."""
        return Negative.NONE


@dataclass(frozen=True)
class ConstantGuidance:
    """``x = (1 + g) x_cond - g x_neg`` at every noise level (classifier-free guidance)."""

    weight: float
    negative: Negative = Negative.UNCONDITIONAL

    @property
    def interval(self) -> tuple[float, float]:
        """Every log-SNR; none at weight 0."""
        return _unless_zero(self.weight, EVERYWHERE)


@dataclass(frozen=True)
class IntervalGuidance:
    """Guidance for logsnr_min < lam < logsnr_max only, conditional alone elsewhere.

    SiD2 supplement B.4: g = 1 on (-3, 5) at 512², (-1.5, 5) at 256², (0, 5) at 128².
    """

    weight: float
    logsnr_min: float
    logsnr_max: float
    negative: Negative = Negative.UNCONDITIONAL

    def __post_init__(self) -> None:
        """Refuse an empty interval."""
        _check_interval(self.logsnr_min, self.logsnr_max)

    @property
    def interval(self) -> tuple[float, float]:
        """(logsnr_min, logsnr_max); empty at weight 0."""
        return _unless_zero(self.weight, (self.logsnr_min, self.logsnr_max))


@dataclass(frozen=True)
class AutoGuidance:
    """``x = (1 + g) x_good - g x_bad``, the negative a worse model with the same condition.

    SiD2 supplement B.5; x = x_bad + w (x_good - x_bad) of arXiv 2406.02507 with w = 1 + g. At
    every noise level unless bounds are given.
    """

    weight: float
    logsnr_min: float | None = None
    logsnr_max: float | None = None

    def __post_init__(self) -> None:
        """Refuse an empty interval."""
        _check_interval(*self._bounds())

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds given, infinite where none is; empty at weight 0."""
        return _unless_zero(self.weight, self._bounds())

    @property
    def negative(self) -> Negative:
        """A smaller model, or one from earlier in training."""
        return Negative.WORSE_MODEL

    def _bounds(self) -> tuple[float, float]:
        low = -math.inf if self.logsnr_min is None else self.logsnr_min
        high = math.inf if self.logsnr_max is None else self.logsnr_max
        return low, high


def acts(interval: tuple[float, float], logsnr: Any) -> Any:
    """``logsnr_min < lam < logsnr_max``, for each entry of a NumPy or JAX array."""
    low, high = interval
    return (logsnr > low) & (logsnr < high)


def combine(x_cond: Samples, x_neg: Samples, weight: ArrayLike) -> Samples:
    """``x = (1 + g) x_cond - g x_neg``, written ``x_cond + g (x_cond - x_neg)``.

    In this form g = 0, or equal predictions, give x_cond to the last bit.
    """
    x_cond = widen(x_cond)
    return x_cond + jnp.asarray(weight, x_cond.dtype) * (x_cond - widen(x_neg))


def guided_x(guidance: Guidance, x_cond: Samples, x_neg: Samples, logsnr: LogSnr) -> Samples:
    """``x = (1 + g) x_cond - g x_neg`` where guidance acts, x_cond elsewhere.

    Decided for each example: in training every example has a noise level of its own, and both
    predictions exist.

    Args:
        guidance: strength and interval.
        x_cond: conditional predictions [b, …].
        x_neg: negative predictions [b, …].
        logsnr: log-SNR of each example [b].

    Returns:
        Guided predictions [b, …], float32.
    """
    guided = combine(x_cond, x_neg, guidance.weight)
    where = per_example(acts(guidance.interval, widen(logsnr)), guided)
    return jnp.where(where, guided, widen(x_cond))


def _unless_zero(weight: float, interval: tuple[float, float]) -> tuple[float, float]:
    """The interval of a guidance of this weight: weight 0 never acts."""
    return interval if weight != 0.0 else NEVER


def _check_interval(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(
            f"the guidance interval is ({low}, {high}), expected logsnr_min < logsnr_max; for no "
            "guidance set the weight to 0"
        )
