"""Noise schedules: log-SNR as a function of diffusion time, its slope and its inverse.

Time runs from 0 (data) to 1 (noise) and log-SNR falls along it. A schedule is a small frozen
dataclass, hashable, so it can be a static argument of a compiled function.
"""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sid2core.typing import Array

__all__ = [
    "Cosine",
    "CosineInterpolated",
    "Schedule",
    "ShiftMode",
    "ShiftedCosine",
    "cosine",
    "cosine_interpolated",
    "resolution_shift",
    "step_times",
]

ShiftMode = Literal["sid", "listing"]
"""How a resolution moves the log-SNR: ``sid`` as in arXiv 2301.11093, ``listing`` as printed."""

_BISECTIONS = 30
"""Halvings of [0, 1]: 2^-30 is finer than a float32 step wherever the inverse can be resolved."""


@runtime_checkable
class Schedule(Protocol):
    """What training, sampling and guidance need of a noise schedule."""

    def logsnr(self, t: ArrayLike) -> Array:
        """Log-SNR at time t, in float32, of t's shape."""
        ...

    def dlogsnr_dt(self, t: ArrayLike) -> Array:
        """Slope of the log-SNR at time t; negative everywhere."""
        ...

    def t_of(self, logsnr: ArrayLike) -> Array:
        """Time at which the schedule has this log-SNR, clipped to [0, 1]."""
        ...

    def logsnr_exact(self, t: np.ndarray) -> np.ndarray:
        """Log-SNR in float64 on the host, for decisions that must not depend on the device."""
        ...


def step_times(steps: int, t_start: float = 1.0) -> np.ndarray:
    """``t_i = t_start (1 - i / steps), i = 0 … steps``: the uniform sampling grid, in float64.

    Step i goes from t_i to t_{i+1}; the grid ends at 0.

    Raises:
        ValueError: unless steps is a whole number of at least one and the start in (0, 1].
    """
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"steps is {steps!r}, expected a whole number of at least 1")
    if not 0.0 < t_start <= 1.0:
        raise ValueError(f"t_start is {t_start}, expected 0 < t_start <= 1 (1 is pure noise)")
    return t_start * (1.0 - np.arange(steps + 1, dtype=np.float64) / steps)


def resolution_shift(noise_res: float, image_size: int, shift: ShiftMode = "sid") -> float:
    """``shift(d) = 2 log(d / image_size)`` or, as printed, ``log(image_size / d)``.

    ``sid`` is arXiv 2301.11093: averaging k x k pixels multiplies the SNR by k^2, so an image
    larger than d needs its log-SNR lowered to be as noisy, once averaged, as an image of size d.
    ``listing`` is the code printed in SiD2 supplement B.1: half as large and of opposite sign.
    """
    if not (0.0 < noise_res < math.inf and 0.0 < image_size < math.inf):
        raise ValueError(
            f"found noise resolution {noise_res} for images of size {image_size}: "
            "expected both to be positive numbers of pixels"
        )
    if shift not in get_args(ShiftMode):
        raise ValueError(f"shift is {shift!r}, expected one of {get_args(ShiftMode)}")
    ratio = math.log(noise_res / image_size)
    return 2.0 * ratio if shift == "sid" else -ratio


def cosine(t: ArrayLike, logsnr_min: float = -10.0, logsnr_max: float = 10.0) -> Array:
    """``cos(t) = -2 log tan(a t + b)``, from logsnr_max at t = 0 to logsnr_min at t = 1.

    b = arctan(exp(-logsnr_max / 2)), a = arctan(exp(-logsnr_min / 2)) - b. SiD2 supplement B.1.

    Args:
        t: times in [0, 1], of any shape.
        logsnr_min: log-SNR at t = 1.
        logsnr_max: log-SNR at t = 0.

    Returns:
        Log-SNR of t's shape, within a few float32 roundings at both ends.
    """
    logsnr: Array = _cosine(_as_float(t), logsnr_min, logsnr_max, jnp)
    return logsnr


def cosine_interpolated(
    t: ArrayLike,
    image_size: int,
    noise_res_low: float = 32,
    noise_res_high: float | None = None,
    logsnr_min: float = -10.0,
    logsnr_max: float = 10.0,
    shift: ShiftMode = "sid",
) -> Array:
    """``lam(t) = cos(t) + (1 - t) shift(noise_res_high) + t shift(noise_res_low)``.

    SiD2 supplement B.1. With the defaults lam runs 10 → -15.55 at 512, → -14.16 at 256 and
    → -12.77 at 128; with ``shift="listing"``, the code as printed, it runs 10 → -7.23 at 512,
    where the mean colour of an image is still visible although sampling starts from pure noise.

    Args:
        t: times in [0, 1], of any shape.
        image_size: height of the image in pixels.
        noise_res_low: resolution that sets the noise level at t = 1.
        noise_res_high: resolution that sets the noise level at t = 0; None is the image's own.
        logsnr_min: the cosine's log-SNR at t = 1, before the shift.
        logsnr_max: the cosine's log-SNR at t = 0, before the shift.
        shift: ``sid`` or ``listing``, see :func:`resolution_shift`.

    Returns:
        Log-SNR of t's shape.

    Raises:
        ValueError: as :class:`CosineInterpolated`, for example if the log-SNR would rise again.
    """
    return CosineInterpolated(
        image_size, noise_res_low, noise_res_high, logsnr_min, logsnr_max, shift
    ).logsnr(t)


class _TiltedCosine:
    """The cosine plus a straight line in t: what the three schedules below have in common."""

    logsnr_min: float
    logsnr_max: float

    def _shifts(self) -> tuple[float, float]:
        """Shift of the log-SNR at t = 0 and at t = 1."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        if not self.logsnr_min < self.logsnr_max:
            raise ValueError(
                f"logsnr_min is {self.logsnr_min} and logsnr_max {self.logsnr_max}: "
                "expected logsnr_min < logsnr_max, swap them"
            )
        at_data, at_noise = self._shifts()
        # The cosine falls most slowly where sin u cos u is largest; this is its rate there.
        slowest = 4.0 * _angles(self.logsnr_min, self.logsnr_max)[0]
        if at_noise - at_data >= slowest:
            raise ValueError(
                f"the shift rises by {at_noise - at_data:.2f} over [0, 1] where the cosine may "
                f"fall by as little as {slowest:.2f}: the log-SNR would not be monotone. Bring "
                "noise_res_low and noise_res_high closer together; with shift='sid' it falls for "
                "every noise_res_low up to noise_res_high"
            )

    def logsnr(self, t: ArrayLike) -> Array:
        """``lam(t) = cos(t) + (1 - t) shift(0) + t shift(1)``."""
        at_data, at_noise = self._shifts()
        t = _as_float(t)
        return cosine(t, self.logsnr_min, self.logsnr_max) + (1.0 - t) * at_data + t * at_noise

    def logsnr_exact(self, t: np.ndarray) -> np.ndarray:
        """``lam(t)`` in float64 on the host, independent of the device."""
        at_data, at_noise = self._shifts()
        t = np.asarray(t, np.float64)
        logsnr: np.ndarray = _cosine(t, self.logsnr_min, self.logsnr_max, np)
        return logsnr + (1.0 - t) * at_data + t * at_noise

    def dlogsnr_dt(self, t: ArrayLike) -> Array:
        """``dlam/dt = -2 a / (sin u cos u) + shift(1) - shift(0), u = a t + b``."""
        t = _as_float(t)
        a, b, c = _angles(self.logsnr_min, self.logsnr_max)
        at_data, at_noise = self._shifts()
        return -2.0 * a / (jnp.sin(a * t + b) * jnp.sin(a * (1.0 - t) + c)) + (at_noise - at_data)

    def t_of(self, logsnr: ArrayLike) -> Array:
        """``t`` with ``lam(t) = logsnr``, clipped to [0, 1]; |t_of(lam(t)) - t| <= 1e-6 in float32.

        Bisection to the last bit that can be resolved, then one Newton step, which also carries
        the derivative dt/dlam = 1 / lam'(t).
        """
        logsnr = _as_float(logsnr)
        target = jax.lax.stop_gradient(logsnr)

        def halve(_: int | Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            later = self.logsnr(middle) > target  # still too little noise: the root is later
            return jnp.where(later, middle, low), jnp.where(later, high, middle)

        bracket = (jnp.zeros_like(target), jnp.ones_like(target))
        low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, bracket)
        t = 0.5 * (low + high)
        return jnp.clip(t - (self.logsnr(t) - logsnr) / self.dlogsnr_dt(t), 0.0, 1.0)


@dataclass(frozen=True)
class Cosine(_TiltedCosine):
    """``lam(t) = cos(t)``: the plain cosine schedule, cut at both ends (arXiv 2301.11093)."""

    logsnr_min: float = -10.0
    logsnr_max: float = 10.0

    @classmethod
    def of(cls, settings: Any, *, image_size: int) -> "Cosine":
        """The schedule of the parameters ``cosine``, the same for images of every size."""
        return cls(settings.logsnr_min, settings.logsnr_max)

    def _shifts(self) -> tuple[float, float]:
        return 0.0, 0.0


@dataclass(frozen=True)
class ShiftedCosine(_TiltedCosine):
    """``lam(t) = cos(t) + shift(noise_res)``: as noisy as an image of noise_res.

    arXiv 2301.11093.
    """

    image_size: int
    noise_res: float = 32
    logsnr_min: float = -10.0
    logsnr_max: float = 10.0
    shift: ShiftMode = "sid"

    def _shifts(self) -> tuple[float, float]:
        shift = resolution_shift(self.noise_res, self.image_size, self.shift)
        return shift, shift


@dataclass(frozen=True)
class CosineInterpolated(_TiltedCosine):
    """``lam(t) = cos(t) + (1 - t) shift(noise_res_high) + t shift(noise_res_low)``.

    SiD2 supplement B.1; the schedule of every model there (``cosine_interpolated_low_32_high_512``
    is image_size = 512 with these defaults). The parameters are :func:`cosine_interpolated`'s.
    """

    image_size: int
    noise_res_low: float = 32
    noise_res_high: float | None = None
    logsnr_min: float = -10.0
    logsnr_max: float = 10.0
    shift: ShiftMode = "sid"

    def _shifts(self) -> tuple[float, float]:
        high = self.image_size if self.noise_res_high is None else self.noise_res_high
        return (
            resolution_shift(high, self.image_size, self.shift),
            resolution_shift(self.noise_res_low, self.image_size, self.shift),
        )


def _angles(logsnr_min: float, logsnr_max: float) -> tuple[float, float, float]:
    """a, b and c = pi/2 - a - b of the cosine schedule."""
    b = math.atan(math.exp(-0.5 * logsnr_max))
    c = math.atan(math.exp(0.5 * logsnr_min))
    return 0.5 * math.pi - b - c, b, c


def _cosine(t: Any, logsnr_min: float, logsnr_max: float, xp: ModuleType) -> Any:
    # -2 log tan u = 2 (log cos u - log sin u), and cos u = sin(pi/2 - u) = sin(a (1 - t) + c):
    # the small angle is then formed directly at either end instead of as a difference from pi/2.
    a, b, c = _angles(logsnr_min, logsnr_max)
    return 2.0 * (xp.log(xp.sin(a * (1.0 - t) + c)) - xp.log(xp.sin(a * t + b)))


def _as_float(values: ArrayLike) -> Array:
    """At least float32: half precision cannot hold a time grid or a log-SNR."""
    array = jnp.asarray(values)
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)
