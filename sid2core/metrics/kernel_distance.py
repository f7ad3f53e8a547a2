"""The kernel distance of two sets of features; Kernel Inception Distance, of Inception's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.metrics import features
from sid2core.metrics.errors import MetricsError


class Kid(NamedTuple):
    """Mean and spread over subsets."""

    mean: float
    std: float
    """Of one subset's estimate (with 1 / subsets), as published beside KID; no standard error."""


def kid(
    features1: ArrayLike,
    features2: ArrayLike,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> Kid:
    """The mean of MMD² over random subsets of both, with k(x, y) = (x·y / d + 1)³.

    MMD² = Σ_i≠j k(x_i, x_j) / (m(m-1)) + Σ_i≠j k(y_i, y_j) / (m(m-1)) - 2 Σ_ij k(x_i, y_j) / m²,
    arXiv 1801.01401. It is unbiased for every m, so a value slightly below 0 is
    possible for similar sets.

    Subsets are drawn without replacement as torch-fidelity draws them (its ``rng_seed`` is 2020),
    so that both see the same ones; sums are float64. Where a set has fewer than ``subset_size``
    vectors, the size of the smaller set is used; torch-fidelity raises an error.

    Args:
        features1: [n, d].
        features2: [m, d], of the same extractor.
        subsets: how many.
        subset_size: vectors of each set in a subset.
        seed: of the subsets.

    Raises:
        MetricsError: fewer than two vectors in a set or subset, no subset, different sizes, or a
            value that is not finite.
    """
    if subsets < 1 or subset_size < 2:
        msg = (
            f"{subsets} subsets of {subset_size} vectors; expected 1 or more, of 2 vectors or more"
        )
        raise MetricsError(msg)
    first, second = features.comparable(features1, features2)
    size = min(subset_size, len(first), len(second))
    if size == len(first) == len(second):
        subsets = 1  # all subsets of that size are the same
    random, found = np.random.RandomState(seed), []
    for _ in range(subsets):
        some, others = (
            values[random.choice(len(values), size, replace=False)].astype(np.float64)
            for values in (first, second)
        )
        found.append(_mmd2(some, others))
    return Kid(float(np.mean(found)), float(np.std(found)))


def _mmd2(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The unbiased estimate from as many of the one as of the other."""
    size = len(first)
    within = 0.0
    for values in (first, second):
        kernel = _kernel(values, values)
        within += (kernel.sum() - np.trace(kernel)) / (size * (size - 1))
    return float(within - 2 * _kernel(first, second).mean())


def _kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    values = first @ second.T / first.shape[1] + 1
    return values * values * values  # several times faster than a power
