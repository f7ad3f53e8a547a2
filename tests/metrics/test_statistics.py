import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.statistics import FeatureStatistics, Moments

PROVENANCE = {"extractor": "classifier", "extractor_digest": "ab", "shape": [8, 8, 1]}


def features_of(count, size=5, seed=0):
    """Far from the origin, where a one-pass sum of squares would lose its digits."""
    rng = np.random.default_rng(seed)
    return 1e4 + rng.normal(size=(count, size)) @ rng.normal(size=(size, size))


@given(
    count=st.integers(2, 200),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    seed=st.integers(0, 1000),
)
def test_streaming_is_two_pass(count, cuts, seed):
    features = features_of(count, seed=seed)
    parts = np.split(features, sorted(min(cut, count) for cut in cuts))
    gathered = FeatureStatistics.of(parts[0])
    for part in parts[1:]:
        gathered = gathered.merge(FeatureStatistics.of(part))
    moments = gathered.moments({})
    assert moments.n == count
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(moments.mu, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.sigma, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_streaming_is_two_pass_to_the_last_digits_near_the_origin():
    features = features_of(5000) - 1e4
    parts = [FeatureStatistics.of(part) for part in np.array_split(features, 37)]
    gathered = FeatureStatistics.of(np.empty((0, 5)))
    for part in parts:
        gathered = gathered.merge(part)
    expected = np.cov(features, rowvar=False)
    found = gathered.moments({}).sigma
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_float32_features_are_summed_in_float64():
    features = features_of(1000).astype(np.float32)
    found = FeatureStatistics.of(features).moments({})
    assert found.sigma.dtype == np.float64
    expected = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(found.sigma, expected, rtol=1e-9)


def test_merging_is_symmetric_and_empty_is_neutral():
    one, other = (FeatureStatistics.of(features_of(9, seed=seed)) for seed in (0, 1))
    empty = FeatureStatistics.of(np.empty((0, 5)))
    np.testing.assert_allclose(one.merge(other).m2, other.merge(one).m2, rtol=1e-13)
    np.testing.assert_array_equal(empty.merge(one).m2, one.m2)
    np.testing.assert_array_equal(one.merge(empty).mean, one.mean)
    assert empty.merge(empty).n == 0


@pytest.mark.parametrize("count", [0, 1])
def test_too_few(count):
    with pytest.raises(MetricsError, match=f"2 feature vectors or more, found {count}"):
        FeatureStatistics.of(np.ones((count, 3))).moments({})


def test_bad_features_are_refused():
    with pytest.raises(MetricsError, match=r"shape \(3,\)"):
        FeatureStatistics.of(np.ones(3))
    with pytest.raises(MetricsError, match="1 of 2 feature vectors"):
        FeatureStatistics.of([[1.0, np.nan], [0.0, 1.0]])
    with pytest.raises(MetricsError, match="merge 3 features with 4"):
        FeatureStatistics.of(np.ones((2, 3))).merge(FeatureStatistics.of(np.ones((2, 4))))


def test_saved_moments_come_back_whole(tmp_path):
    made = FeatureStatistics.of(features_of(20)).moments(PROVENANCE)
    made.save(tmp_path / "one.npz")
    made.save(tmp_path / "other.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    found = Moments.load(tmp_path / "one.npz")
    np.testing.assert_array_equal(found.mu, made.mu)
    np.testing.assert_array_equal(found.sigma, made.sigma)
    assert (found.n, found.provenance) == (20, PROVENANCE)
    assert statistics.distance(found, made) == pytest.approx(0.0, abs=1e-9)


def write_npz(path, **entries):
    np.savez(path, **entries)
    return path


def test_what_is_no_statistics_file_is_refused(tmp_path):
    good = {"mu": np.zeros(2), "sigma": np.eye(2), "n": 3, "provenance": json.dumps({})}
    text = tmp_path / "text.npz"
    text.write_text("mu")
    files = [
        tmp_path / "missing.npz",
        text,
        write_npz(tmp_path / "a.npz", **{**good, "provenance": "no JSON"}),
        write_npz(tmp_path / "b.npz", mu=good["mu"], sigma=good["sigma"]),
        write_npz(tmp_path / "c.npz", **{**good, "mu": np.array([{}, {}], dtype=object)}),
        write_npz(tmp_path / "d.npz", **{**good, "sigma": np.eye(3)}),
        write_npz(tmp_path / "e.npz", **{**good, "provenance": "[1]"}),
    ]
    for path in files:
        with pytest.raises(MetricsError, match=re.escape(str(path))):
            Moments.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = write_npz(tmp_path / "a.npz", mu=np.zeros(2), sigma=np.eye(2), n=3, provenance="{}")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MetricsError, match="cannot be read as feature statistics"):
        Moments.load(path)


def test_comparable_but_for_what_describes():
    statistics.check_comparable(PROVENANCE | {"split": "train"}, PROVENANCE | {"split": "eval"})
    statistics.check_comparable(PROVENANCE | {"data": "x"}, PROVENANCE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extractor_digest": "cd"}, r"extractor_digest \('ab' against 'cd'\)"),
        ({"shape": [9, 9, 1]}, "shape"),
        ({"resize": "tf1"}, r"resize \(None against 'tf1'\)"),
    ],
)
def test_others_are_refused_by_name(change, message):
    with pytest.raises(MetricsError, match=message):
        statistics.check_comparable(PROVENANCE, PROVENANCE | change)
    made = FeatureStatistics.of(features_of(20))
    with pytest.raises(MetricsError, match="cannot be compared"):
        statistics.distance(made.moments(PROVENANCE), made.moments(PROVENANCE | change))
