import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.inception_score import inception_score
from tests.metrics import peers


def logits_of(count, classes=12, scale=3.0, seed=0):
    return (scale * np.random.default_rng(seed).normal(size=(count, classes))).astype(np.float32)


@pytest.mark.parametrize("count", [200, 203, 999])
@pytest.mark.parametrize("seed", [None, 2020])
@pytest.mark.parametrize("splits", [1, 10])
def test_against_torch_fidelity(count, splits, seed):
    logits = logits_of(count)
    found = inception_score(logits, splits=splits, seed=seed)
    assert found == pytest.approx(peers.inception_score(logits, splits, seed), rel=1e-12)


def test_of_fifty_thousand_splits_are_adms():
    """Consecutive ones of 5000, in the images' order; a tenth of that here."""
    logits = logits_of(5000)
    log_p = logits.astype(np.float64)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    scores = []
    for start in range(0, 5000, 500):
        part = log_p[start : start + 500]
        mean = np.exp(part).mean(axis=0)
        scores.append(np.exp((np.exp(part) * (part - np.log(mean))).sum(axis=1).mean()))
    assert inception_score(logits) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(1, 20), repeats=st.integers(2, 5))
def test_certain_and_balanced_it_is_the_number_of_classes(classes, repeats):
    logits = np.tile(1e4 * np.eye(classes), (10 * repeats, 1))
    assert inception_score(logits) == pytest.approx((classes, 0.0), rel=1e-12, abs=1e-9)


def test_all_alike_it_is_one():
    assert inception_score(np.tile(logits_of(1), (40, 1))) == pytest.approx((1.0, 0.0), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_between_one_and_the_number_of_classes(seed):
    found = inception_score(logits_of(60, classes=5, scale=10.0, seed=seed))
    assert 1.0 <= found.mean <= 5.0


def test_sorted_images_must_be_shuffled():
    """Each split of sorted ones has a single class: 1, where the truth is 10."""
    logits = np.repeat(1e3 * np.eye(10), 100, axis=0)
    assert inception_score(logits).mean == pytest.approx(1.0)
    assert inception_score(logits, seed=0).mean == pytest.approx(10.0, rel=0.05)


def test_too_few_or_broken_logits_are_refused():
    with pytest.raises(MetricsError, match="needs 20 vectors or more, found 19 logits"):
        inception_score(logits_of(19))
    with pytest.raises(MetricsError, match="0 splits"):
        inception_score(logits_of(20), splits=0)
    broken = logits_of(20)
    broken[3] = np.inf
    with pytest.raises(MetricsError, match="1 of 20 vectors of the logits are not finite"):
        inception_score(broken)
