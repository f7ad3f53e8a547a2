"""Guidance: pushing the conditional prediction away from a negative one.

x = (1 + g) x_cond - g x_neg throughout, so "guidance 1.0" is what others call a scale of 2. The
negative is the unconditional model, or, for autoguidance, a worse one.

Guidance acts at a noise level lam if logsnr_min < lam < logsnr_max, both ends excluded as the
parentheses in SiD2 supplement B.4 have it, where lam is that of a step's *start*. A sampler's grid
is known before it runs, so whether a step is guided is decided on the host in float64, and outside
the interval the negative network is never evaluated.
"""

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sid2core.diffusion.parametrisation import per_example, widen
from sid2core.diffusion.schedule import Schedule, step_times
from sid2core.typing import LogSnr, Samples

__all__ = [
    "AutoGuidance",
    "ConstantGuidance",
    "Guidance",
    "IntervalGuidance",
    "Negative",
    "NoGuidance",
    "Segment",
    "combine",
    "guided_x",
    "segments",
]


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

    def nfe(self, schedule: Schedule, steps: int, t_start: float = 1.0) -> int:
        """Network evaluations an image costs: one a step, one more where guidance acts."""
        ...


class _Guided:
    """The common part of the kinds of guidance; acts at every noise level."""

    @property
    def interval(self) -> tuple[float, float]:
        """Every noise level."""
        return -math.inf, math.inf

    def nfe(self: Guidance, schedule: Schedule, steps: int, t_start: float = 1.0) -> int:
        """Network evaluations an image costs: one a step, one more where guidance acts."""
        runs = segments(self, schedule, steps, t_start)
        return sum((2 if run.guided else 1) * (run.stop - run.start) for run in runs)


@dataclass(frozen=True)
class NoGuidance(_Guided):
    """``x = x_cond``."""

    @property
    def weight(self) -> float:
        """0: the conditional prediction alone."""
        return 0.0

    @property
    def negative(self) -> Negative:
        """No second network."""
        return Negative.NONE


@dataclass(frozen=True)
class ConstantGuidance(_Guided):
    """``x = (1 + g) x_cond - g x_neg`` at every noise level (classifier-free guidance)."""

    weight: float
    negative: Negative = Negative.UNCONDITIONAL


@dataclass(frozen=True)
class IntervalGuidance(_Guided):
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
        """(logsnr_min, logsnr_max)."""
        return self.logsnr_min, self.logsnr_max


@dataclass(frozen=True)
class AutoGuidance(_Guided):
    """``x = (1 + g) x_good - g x_bad``, the negative a worse model with the same conditioning.

    SiD2 supplement B.5; x = x_bad + w (x_good - x_bad) of arXiv 2406.02507 with w = 1 + g. At
    every noise level unless bounds are given.
    """

    weight: float
    logsnr_min: float | None = None
    logsnr_max: float | None = None

    def __post_init__(self) -> None:
        """Refuse an empty interval."""
        _check_interval(*self.interval)

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds given, infinite where none is."""
        low = -math.inf if self.logsnr_min is None else self.logsnr_min
        high = math.inf if self.logsnr_max is None else self.logsnr_max
        return low, high

    @property
    def negative(self) -> Negative:
        """A smaller model, or one from earlier in training."""
        return Negative.WORSE_MODEL


class Segment(NamedTuple):
    """Steps start … stop - 1 of a sampler, all guided or all not."""

    start: int
    stop: int
    guided: bool


def segments(
    guidance: Guidance, schedule: Schedule, steps: int, t_start: float = 1.0
) -> list[Segment]:
    """The sampler's steps as contiguous runs that are guided or not.

    A step is guided if g != 0 and logsnr_min < lam(t) < logsnr_max at its start t, in float64.
    """
    low, high = guidance.interval
    logsnr = schedule.logsnr_exact(step_times(steps, t_start)[:-1])
    guided = (low < logsnr) & (logsnr < high) & (guidance.weight != 0.0)
    edges = [0, *(np.flatnonzero(np.diff(guided)) + 1).tolist(), steps]
    return [Segment(a, b, bool(guided[a])) for a, b in itertools.pairwise(edges)]


def combine(x_cond: Samples, x_neg: Samples, weight: ArrayLike) -> Samples:
    """``x = (1 + g) x_cond - g x_neg``, written ``x_cond + g (x_cond - x_neg)``.

    In this form g = 0, or equal predictions, give x_cond to the last bit.
    """
    x_cond = widen(x_cond)
    return x_cond + jnp.asarray(weight, x_cond.dtype) * (x_cond - widen(x_neg))


def guided_x(guidance: Guidance, x_cond: Samples, x_neg: Samples, logsnr: LogSnr) -> Samples:
    """``x = (1 + g) x_cond - g x_neg`` where guidance acts, x_cond elsewhere.

    Decided for each example: training steps draw a noise level for every one, and there both
    predictions exist.

    Args:
        guidance: strength and interval.
        x_cond: conditional predictions [b, …].
        x_neg: negative predictions [b, …].
        logsnr: log-SNR of each example [b].

    Returns:
        Guided predictions [b, …], float32.
    """
    low, high = guidance.interval
    acts = (widen(logsnr) > low) & (widen(logsnr) < high)
    guided = combine(x_cond, x_neg, guidance.weight)
    return jnp.where(per_example(acts, guided), guided, widen(x_cond))


def _check_interval(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(
            f"the guidance interval is ({low}, {high}), expected logsnr_min < logsnr_max; for no "
            "guidance set the weight to 0"
        )
