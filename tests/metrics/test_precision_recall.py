"""Where distances tie, peers differ by convention; elsewhere all must say the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.metrics import precision_recall as manifold
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.precision_recall import density_coverage, precision_recall
from tests.metrics import peers


def sets_of(real, fake, size=6, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(real, size))
    second = 0.8 * rng.normal(size=(fake, size)) + 0.4
    return first.astype(np.float32), second.astype(np.float32)


@pytest.fixture(params=[7, 64, manifold._TILE])
def tile(request, monkeypatch):
    monkeypatch.setattr(manifold, "_TILE", request.param)


SIZES = [(200, 200), (150, 333), (40, 10)]


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize(("real", "fake"), SIZES)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_torch_fidelity_and_prdc(real, fake, k):
    first, second = sets_of(real, fake)
    pair, other = precision_recall(first, second, k), density_coverage(first, second, k)
    peer = peers.precision_recall(first, second, k)
    assert pair == pytest.approx(peer, abs=1e-6)  # theirs are means in float32
    all_four = peers.precision_recall_density_coverage(first, second, k)
    assert {**pair._asdict(), **other._asdict()} == pytest.approx(all_four, abs=1e-12)


def test_defaults():
    first, second = sets_of(120, 90)
    assert precision_recall(first, second) == precision_recall(first, second, k=3)
    assert density_coverage(first, second) == density_coverage(first, second, k=5)


def exact(real, fake, k):
    """By definition, in whole numbers."""

    def squared(first, second):
        return ((first[:, None] - second) ** 2).sum(axis=-1)

    def radii(points):
        return np.sort(squared(points, points), axis=1)[:, k]  # the first is the point itself

    between = squared(real, fake)
    within, strictly = between <= radii(real)[:, None], between < radii(real)[:, None]
    return (
        (within.any(axis=0).mean(), (between <= radii(fake)).any(axis=1).mean()),
        (strictly.sum() / (k * len(fake)), strictly.any(axis=1).mean()),
    )


@settings(max_examples=60, deadline=None)
@given(
    counts=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    size=st.integers(1, 40),
    high=st.integers(1, 4),
    scale=st.sampled_from([1.0, 1e-9, 1 / 3, 1e6 / 7]),
    k=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_ties_are_decided_by_definition(counts, size, high, scale, k, seed):
    """Few whole numbers tie everywhere; scaled and moved, floating sums of them no longer do."""
    rng = np.random.default_rng(seed)
    real, fake = (rng.integers(0, high + 1, (count, size)) for count in counts)
    moved = [scale * (values + 0.1) for values in (real, fake)]
    expected = exact(real, fake, k)
    assert precision_recall(*moved, k) == pytest.approx(expected[0], abs=1e-12)
    assert density_coverage(*moved, k) == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_set_judged_by_itself(shift):
    """Every k-th neighbour lies exactly on a radius: by ``<``, density is 1 and not (k + 1) / k."""
    features = (sets_of(100, 9, size=50)[0] + shift).astype(np.float32)
    shuffled = features[np.random.default_rng(1).permutation(100)]
    assert precision_recall(features, shuffled) == (1.0, 1.0)
    assert density_coverage(features, shuffled) == (1.0, 1.0)


def test_density_expects_one_of_the_same_distribution():
    rng = np.random.default_rng(0)
    found = density_coverage(*rng.normal(size=(2, 1500, 3)))
    assert found.density == pytest.approx(1.0, abs=0.03)
    assert found.coverage == pytest.approx(
        1 - 0.5**5, abs=0.02
    )  # arXiv 2002.09797: of equal counts


def test_an_outlier_does_not_blur_the_others():
    """Its length would swamp a common tolerance: each pair has its own."""
    first, second = sets_of(80, 80)
    first[0] *= 1e10
    others = precision_recall(first[1:], second), density_coverage(first[1:], second)
    found = precision_recall(first, second), density_coverage(first, second)
    assert found[0].precision >= others[0].precision
    assert found[0].recall == pytest.approx(others[0].recall * 79 / 80)
    assert found[1].density >= others[1].density


def test_disjoint_sets():
    first, second = sets_of(50, 50)
    assert precision_recall(first, second + 100) == (0.0, 0.0)
    assert density_coverage(first, second + 100) == (0.0, 0.0)


@pytest.mark.parametrize("score", [precision_recall, density_coverage])
def test_neighbours_that_are_not_there_are_refused(score):
    first, second = sets_of(4, 3)
    with pytest.raises(MetricsError, match="needs 4 vectors or more, found 3 generated features"):
        score(first, second, k=3)
    with pytest.raises(MetricsError, match="k is 0"):
        score(first, second, k=0)
