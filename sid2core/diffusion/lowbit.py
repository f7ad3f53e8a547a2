"""Expected noise-prediction loss of low-bit data under the optimal model (SiD2 supplement A)."""

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["eps_error"]

_STEP = 1.0 / 16.0
"""Spacing of the quadrature in units of the noise. The trapezoidal rule converges like
exp(-2 pi w / step) for an integrand analytic within w of the real line; here w = pi / spacing of
the data, so data 10 noise units apart (error below 1e-5) are integrated to exp(-31)."""
_TAIL = 9.0
"""How far beyond the outermost value to integrate, in units of the noise: the probability beyond
is 1e-18."""
_WINDOW = 12.0
"""Values further than this from an observation have negligible posterior weight: exp(-72)."""
_APART = 50.0
"""Values this many noise units apart are always distinguished: the error is below exp(-300)."""


def eps_error(bits: int, logsnr: ArrayLike) -> np.ndarray:
    """``E ||eps - eps_hat||^2 = SNR E[Var(x | z)]``, x uniform on 2^bits values in [-1, 1].

    The model is the exact posterior mean, so eps - eps_hat = -(alpha / sigma) (x - x_hat). SiD2
    supplement A, Figure 11. At low SNR it tends to SNR Var(x); where the noise is wider than the
    spacing of the values and narrower than their range it is near 1; at higher SNR it vanishes.

    Args:
        bits: precision n >= 1; the values are -1 + 2 k / (2^n - 1), k = 0 … 2^n - 1.
        logsnr: log-SNR, of any shape.

    Returns:
        The loss in float64 of logsnr's shape, to 1e-6 absolute for log-SNR in [-10, 16], by the
        trapezoidal rule over the observation, not by sampling.
    """
    if bits < 1:
        raise ValueError(f"bits is {bits}, expected at least 1 (two values)")
    levels = np.asarray(logsnr, np.float64)
    errors = [_mean_posterior_variance(2**bits, math.exp(0.5 * lam)) for lam in levels.flat]
    return np.array(errors, np.float64).reshape(levels.shape)


def _mean_posterior_variance(count: int, scale: float) -> float:
    """E[Var(m | y)] for y = m + unit noise, m uniform on ``count`` values in [-scale, scale]."""
    spacing = 2.0 * scale / (count - 1)
    if spacing > _APART:
        return 0.0
    # Distribution and integrand are even in y, so half of the line is enough.
    points = math.ceil((scale + _TAIL) / _STEP)
    y = _STEP * np.arange(points + 1)
    nearest = np.clip(np.rint((y + scale) / spacing), 0, count - 1).astype(np.int64)
    reach = min(count - 1, math.ceil(_WINDOW / spacing) + 1)
    index = nearest[:, None] + np.arange(-reach, reach + 1)
    exists = (index >= 0) & (index < count)
    # Offsets from the nearest value keep the variance free of cancellation at high SNR.
    offset = (index - nearest[:, None]) * spacing
    residual = (y + scale - nearest * spacing)[:, None]
    density = np.where(exists, np.exp(-0.5 * (residual - offset) ** 2), 0.0)
    total = density.sum(axis=1)
    posterior = density / np.maximum(total, np.finfo(np.float64).tiny)[:, None]
    mean = (posterior * offset).sum(axis=1, keepdims=True)
    variance = (posterior * (offset - mean) ** 2).sum(axis=1)
    integrand = total * variance
    integral = _STEP * (2.0 * integrand[1:].sum() + integrand[0])
    return float(integral / (count * math.sqrt(2.0 * math.pi)))
