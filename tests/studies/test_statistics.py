"""Intervals against SciPy, and what follows from them."""

import math

import pytest
from scipy import stats

from sid2core.studies import statistics
from sid2core.studies.statistics import Interval

FIRST, SECOND = [1.0, 2.0, 4.0], [1.5, 2.2, 5.0]


def test_the_paired_interval_is_that_of_scipy():
    expected = stats.ttest_rel(FIRST, SECOND).confidence_interval(0.95)
    found = statistics.difference(FIRST, SECOND)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(-1.7 / 3)
    assert found.seeds == 3


def test_the_interval_of_a_mean_has_n_minus_one_degrees_of_freedom():
    found = statistics.mean(FIRST)
    low, high = stats.t.interval(0.95, 2, found.mean, stats.sem(FIRST))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_has_no_interval():
    found = statistics.mean([3.0])
    assert found.mean == 3.0
    assert math.isnan(found.low)
    assert statistics.conclusion([found]) == "undecided"


def test_seeds_without_a_pair_or_a_number_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        statistics.difference(FIRST, SECOND[:2])
    with pytest.raises(ValueError, match="finite"):
        statistics.mean([1.0, math.nan])


def interval(low, high):
    return Interval((low + high) / 2, low, high, 3)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([interval(-2, -1)], "supported"),
        ([interval(-2, -1), interval(-1, 1)], "undecided"),
        ([interval(-2, -1), interval(1, 2)], "contradicted"),
        ([interval(-1, 0)], "undecided"),
    ],
)
def test_conclusions(intervals, expected):
    assert statistics.conclusion(intervals) == expected
