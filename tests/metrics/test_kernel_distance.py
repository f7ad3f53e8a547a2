import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.kernel_distance import kid
from tests.metrics import peers


def pair(first, second, size=7, seed=0):
    """Relu-like features, the second's a little larger."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(size, size))
    draw = [np.maximum(rng.normal(size=(count, size)) @ mix, 0) for count in (first, second)]
    return draw[0].astype(np.float32), (1.1 * draw[1]).astype(np.float32)


@pytest.mark.parametrize(("first", "second"), [(300, 300), (300, 140), (130, 500)])
@pytest.mark.parametrize("size", [2, 50, 130])
def test_against_torch_fidelity_on_the_same_subsets(first, second, size):
    sets = pair(first, second)
    found = kid(*sets, subsets=20, subset_size=size, seed=7)
    assert found == pytest.approx(peers.kid(*sets, 20, size, 7), rel=1e-10)


def test_defaults_are_torch_fidelitys():
    ours = inspect.signature(kid).parameters
    for name, theirs in (
        ("subsets", "kid_subsets"),
        ("subset_size", "kid_subset_size"),
        ("seed", "rng_seed"),
    ):
        assert ours[name].default == peers.DEFAULTS[theirs]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 6), size=st.integers(1, 5), seed=st.integers(0, 1000))
def test_of_all_vectors_it_is_its_definition(count, size, seed):
    first, second = (values.astype(np.float64) for values in pair(count, count, size, seed))

    def mean(pairs):
        return np.mean([(x @ y / size + 1) ** 3 for x, y in pairs])

    expected = mean(itertools.permutations(first, 2)) + mean(itertools.permutations(second, 2))
    expected -= 2 * mean(itertools.product(first, second))
    found = kid(first, second)
    assert found.mean == pytest.approx(expected, rel=1e-9, abs=1e-9 * (abs(expected) + 1e3))
    assert found.std == 0.0


def test_fewer_than_a_subset_are_taken_whole():
    first, second = pair(60, 300)
    assert kid(first, second) == kid(first, second, subset_size=60)
    with pytest.raises(ValueError, match="subset size 1000 cannot be smaller"):
        peers.kid(first, second, 20, 1000)


def test_alike_sets_are_at_zero_on_average_and_may_be_below():
    """Unbiased: of two sets of one distribution the mean is within its own scatter of 0."""
    found = [
        kid(*(values / (1, 1.1)[i] for i, values in enumerate(pair(200, 200, seed=seed)))).mean
        for seed in range(60)
    ]
    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_a_seed_is_a_choice_of_subsets():
    sets = pair(300, 300)
    settings = {"subsets": 5, "subset_size": 50}
    assert kid(*sets, **settings) == kid(*sets, **settings)
    assert kid(*sets, **settings).mean != kid(*sets, **settings, seed=1).mean


@pytest.mark.parametrize("settings", [{"subsets": 0}, {"subset_size": 1}])
def test_no_subsets_are_refused(settings):
    with pytest.raises(MetricsError, match="expected 1 or more, of 2 vectors or more"):
        kid(*pair(20, 20), **settings)
