"""Paired differences over seeds, and what they say about a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
Conclusion = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its confidence interval; NaN ends where there is one seed only."""

    mean: float
    low: float
    high: float
    seeds: int


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean ± t(n - 1) s / sqrt(n), Student's interval for the mean of n values.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    count = len(values)
    if not count or not np.isfinite(values).all():
        msg = f"found {list(values)}; expected one finite number or more"
        raise ValueError(msg)
    middle = float(np.mean(values))
    if count == 1:
        return Interval(middle, math.nan, math.nan, 1)
    spread = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * spread
    return Interval(middle, middle - half, middle + half, count)


def difference(
    first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """The mean of ``first - second``, paired by seed: both have the same data, noise and order.

    Raises:
        ValueError: the lengths differ, or :func:`mean` refuses the differences.
    """
    pairs = zip(first, second, strict=True)
    return mean([one - other for one, other in pairs], confidence)


def conclusion(differences: Sequence[Interval]) -> Conclusion:
    """Whether each of the differences (smaller - larger) is below zero.

    Supported where all intervals are; contradicted where one lies above zero; else undecided.
    """
    if any(one.low > 0 for one in differences):
        return "contradicted"
    return "supported" if all(one.high < 0 for one in differences) else "undecided"
