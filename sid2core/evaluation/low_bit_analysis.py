"""The low-bit view of the sigmoid loss (SiD2 supplement A), as tables for figures.

Nothing here is trained or drawn: the model is the exact posterior mean of data that are a single
value, uniform on 2^n levels in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sid2core.diffusion import lowbit, weighting
from sid2core.diffusion.losses import TrainingLoss
from sid2core.diffusion.schedule import Schedule

FULL_BITS = 8
"""The precision of a pixel: what the mixture of coarser data is compared with."""

Levels = NDArray[np.float64]


def eps_errors(bits: Iterable[int], logsnr: Levels) -> dict[int, Levels]:
    """``E ||eps - eps_hat||^2`` over log-SNR for data of each precision, by precision."""
    return {count: lowbit.eps_error(count, logsnr) for count in sorted(set(bits))}


def figure11(logsnr: Levels, errors: Mapping[int, Levels]) -> pd.DataFrame:
    """``E_n(lam) = E ||eps - eps_hat||^2`` of n-bit data (SiD2 supplement A, Figure 11).

    Returns:
        A row each log-SNR and precision: columns ``logsnr``, ``bits``, ``eps_error``.
    """
    return _long({"logsnr": logsnr}, "bits", "eps_error", errors)


def figure12(
    logsnr: Levels, errors: Mapping[int, Levels], bias: float, mixture: Mapping[int, float]
) -> pd.DataFrame:
    """``sigmoid(bias - lam) E_8(lam)`` and ``sum_n p_n E_n(lam)`` (supplement A, Figure 12).

    Args:
        logsnr: log-SNR of a single value; an image d pixels high has bias lower by 2 log d.
        errors: :func:`eps_errors` of 8 bits and of every precision mixed.
        bias: where the sigmoid weighting falls.
        mixture: precision n → its share, in any unit; the p_n are made to sum to one.

    Returns:
        A row each log-SNR and curve: columns ``logsnr``, ``curve`` (``sigmoid_weighted``,
        ``mixture``) and ``value``.
    """
    weight = np.asarray(weighting.sigmoid(jnp.asarray(logsnr, jnp.float32), bias), np.float64)
    whole = sum(mixture.values())
    curves = {
        "sigmoid_weighted": weight * errors[FULL_BITS],
        "mixture": sum((p / whole * errors[n] for n, p in mixture.items()), np.zeros_like(logsnr)),
    }
    return _long({"logsnr": logsnr}, "curve", "value", curves)


def gaps(figure: pd.DataFrame) -> dict[str, float]:
    """How far apart the two curves of :func:`figure12` lie, over its log-SNR range.

    Returns:
        The largest absolute gap, the log-SNR it lies at, and the mean over the range.
    """
    curves = figure.pivot(index="logsnr", columns="curve", values="value")
    gap = (curves["sigmoid_weighted"] - curves["mixture"]).abs().to_numpy()
    return {
        "figure12_gap_max": float(gap.max()),
        "figure12_gap_max_logsnr": float(curves.index.to_numpy()[gap.argmax()]),
        "figure12_gap_mean": float(gap.mean()),
    }


def emphasis(
    schedule: Schedule, loss: TrainingLoss, step: int, image_size: int, points: int
) -> pd.DataFrame:
    """``w(lam)`` on the eps error, and ``p(lam) = -dt/dlam``: which noise levels training counts.

    The training loss carries the slope -dlam/dt, so it is a multiple of the integral of w(lam)
    E(lam) over log-SNR whatever the schedule (SiD2 supplement A, B.1): the emphasis is w alone.
    The density p says how often a level is drawn, and w p what of that still counts; the area
    under w p is the mean weight of a draw, and draws where it has left p are wasted.

    The power loss (B.2) weighs each Haar sub-band of the eps error on its own, up to a factor that
    they share: see :meth:`losses.PowerLoss.weights`. There w is the deepest low sub-band's, and
    the others', none of them higher, follow under their names.

    Args:
        schedule: the noise schedule; the table spans its log-SNR evenly.
        loss: what training minimises.
        step: when a weight that moves during training is read.
        image_size: height of the images, to which EDM's weighting is shifted.
        points: number of noise levels.

    Returns:
        A row each noise level and curve: columns ``t``, ``logsnr``, ``curve``, ``value``. Curves:
        ``weight``; ``edm_monotonic``, the baseline of supplement C.1 divided by its highest
        value; ``density``, whose integral over log-SNR is one; ``weighted_density``; for the
        power loss ``weight_LH`` and so on, the last the finest details'.
    """
    noise, data = schedule.logsnr_exact(np.array([1.0, 0.0]))
    logsnr = np.linspace(noise, data, points)
    levels = jnp.asarray(logsnr, jnp.float32)
    t = schedule.t_of(levels)
    weights = {name: _exact(values) for name, values in loss.weights(levels, step).items()}
    deepest, *others = weights
    weight = weights[deepest]
    edm = _exact(weighting.edm_monotonic(levels, weighting.edm_resolution_shift(image_size)))
    density = -1.0 / _exact(schedule.dlogsnr_dt(t))
    curves = {
        "weight": weight,
        "edm_monotonic": edm / float(weighting.edm(jnp.asarray(weighting.EDM_PEAK, jnp.float32))),
        "density": density,
        "weighted_density": weight * density,
        **{f"weight_{name}": weights[name] for name in others},
    }
    # The inverse of the schedule is right to 1e-6.
    return _long({"t": _exact(t).round(6), "logsnr": logsnr}, "curve", "value", curves)


def _exact(values: jnp.ndarray) -> Levels:
    return np.asarray(values, np.float64)


def _long(
    shared: Mapping[str, Levels],
    key: str,
    value: str,
    curves: Mapping[int, Levels] | Mapping[str, Levels],
) -> pd.DataFrame:
    """One curve below the other, each row named by its curve."""
    parts = [pd.DataFrame({**shared, key: name, value: curve}) for name, curve in curves.items()]
    return pd.concat(parts, ignore_index=True)
