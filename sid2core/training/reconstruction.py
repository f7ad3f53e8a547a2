"""Averages of any width from stored ones: the power-function EMAs at the snapshots of a training.

arXiv 2312.02696, section 3.2. The average of width sigma at step T gives the weights of step t the
share p(t) = (t / T)^(gamma+1) - ((t-1) / T)^(gamma+1). The stored averages have such profiles too,
and the wanted one is their linear combination of the least squared error, with coefficients that
sum to 1, so that weights that do not change are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from sid2core.training.ema import gamma

_EDGES = 20_000
"""Steps are put into at most so many groups of equal size."""


@dataclass(frozen=True)
class Stored:
    """A power-function EMA that a training kept.

    Attributes:
        step: of the snapshot, from 1.
        width: sigma_rel.
    """

    step: int
    width: float


@dataclass(frozen=True, eq=False)
class Combination:
    """How to make the wanted average.

    Attributes:
        coefficients: of the stored averages, [n]; they sum to 1.
        error: ‖combined profile - p‖ / ‖p‖. With 32 snapshots of the widths 0.05 and 0.1 it is
            0.001 for a width of 0.07, and weights differ by 1e-5; with 8 snapshots 0.013 and 1e-3.
    """

    coefficients: NDArray[np.float64]
    error: float


def combination(stored: Sequence[Stored], wanted: Stored) -> Combination:
    """The combination of ``stored`` averages, of any snapshots, that is nearest to ``wanted``."""
    last = max(wanted.step, *(one.step for one in stored))
    edges = np.unique(np.linspace(0, last, min(last, _EDGES) + 1).round())
    profiles = np.stack([_profile(one, edges) for one in stored], axis=1)
    goal = _profile(wanted, edges)
    # Σ c = 1 by elimination of the first: c_0 = 1 - Σ others.
    rest = np.linalg.lstsq(profiles[:, 1:] - profiles[:, :1], goal - profiles[:, 0], rcond=None)[0]
    coefficients = np.concatenate([[1 - rest.sum()], rest])
    error = np.linalg.norm(profiles @ coefficients - goal) / np.linalg.norm(goal)
    return Combination(coefficients, float(error))


def combined(
    files: Sequence[Path], coefficients: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """Σ c_i w_i of the weights in safetensors files, summed in float64; float32."""
    with safe_open(files[0], "numpy") as first:
        names = sorted(first.keys())
    totals: dict[str, NDArray[np.float64]] = {}
    for path, coefficient in zip(files, coefficients, strict=True):
        with safe_open(path, "numpy") as file:
            for name in names:
                term = coefficient * file.get_tensor(name).astype(np.float64)
                totals[name] = totals[name] + term if name in totals else term
    return {name: total.astype(np.float32) for name, total in totals.items()}


def _profile(one: Stored, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of the steps between ``edges``."""
    return np.diff(np.minimum(edges / one.step, 1.0) ** (gamma(one.width) + 1))
