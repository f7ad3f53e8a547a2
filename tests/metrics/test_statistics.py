import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
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
    merged = FeatureStatistics.of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(FeatureStatistics.of(part))
    moments = merged.moments({})
    assert moments.n == count
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(moments.mu, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.sigma, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_streaming_is_two_pass_to_the_last_digits_near_the_origin():
    features = features_of(5000) - 1e4
    parts = [FeatureStatistics.of(part) for part in np.array_split(features, 37)]
    merged = FeatureStatistics.of(np.empty((0, 5)))
    for part in parts:
        merged = merged.merge(part)
    expected = np.cov(features, rowvar=False)
    found = merged.moments({}).sigma
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


PUBLISHED = {"extractor": "inception", "mode": "tf1"}


def test_a_file_of_ours_reads_as_pytorch_fid_reads_it(tmp_path):
    made = FeatureStatistics.of(features_of(20)).moments(PROVENANCE)
    made.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        mu, sigma = file["mu"][:], file["sigma"][:]
    np.testing.assert_array_equal(mu, made.mu)
    np.testing.assert_array_equal(sigma, made.sigma)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_others_files_are_what_is_declared(tmp_path, dtype):
    mu, sigma = np.arange(4, dtype=dtype), np.diag(np.arange(1, 5)).astype(dtype)
    path = write_npz(tmp_path / "a.npz", mu=mu, sigma=sigma)
    found = Moments.published(path, PUBLISHED, size=4)
    np.testing.assert_array_equal(found.sigma, sigma)
    assert found.sigma.dtype == np.float64
    assert found.n is None
    assert found.provenance == PUBLISHED | {"declared": ["extractor", "mode"]}
    counted = Moments.published(path, PUBLISHED | {"n": 50_000})
    assert counted.n == 50_000
    assert "n" not in counted.provenance


def test_unknown_counts_survive_a_file(tmp_path):
    write_npz(tmp_path / "a.npz", mu=np.zeros(2), sigma=np.eye(2))
    made = Moments.published(tmp_path / "a.npz", PUBLISHED)
    made.save(tmp_path / "b.npz")
    for found in (
        Moments.load(tmp_path / "b.npz"),
        Moments.published(tmp_path / "b.npz", PUBLISHED),
    ):
        assert found.n is None
        assert found.provenance == made.provenance


def test_adms_files_are_read_past_their_images_and_objects(tmp_path):
    """Other entries of the file are never read, so they may be unreadable."""
    entries = {"arr_0": np.array([{}], dtype=object), "mu_s": np.ones(3), "sigma_s": np.eye(3)}
    path = write_npz(tmp_path / "VIRTUAL.npz", mu=np.zeros(2), sigma=np.eye(2), **entries)
    assert Moments.published(path, PUBLISHED).mu.size == 2
    np.testing.assert_array_equal(Moments.published(path, PUBLISHED, spatial=True).mu, np.ones(3))
    assert statistics.is_statistics(path)


def test_our_own_file_contains_its_provenance(tmp_path):
    FeatureStatistics.of(features_of(20)).moments(PROVENANCE).save(tmp_path / "a.npz")
    found = Moments.published(tmp_path / "a.npz", {"extractor": "classifier"})
    assert (found.n, found.provenance) == (20, PROVENANCE)
    with pytest.raises(MetricsError, match=r"extractor 'classifier' \(expected 'inception'\)"):
        Moments.published(tmp_path / "a.npz", PUBLISHED)
    with pytest.raises(MetricsError, match=r"n 20 \(expected 50000\)"):
        Moments.published(tmp_path / "a.npz", {"n": 50_000})


def test_an_extractor_must_be_declared(tmp_path):
    path = write_npz(tmp_path / "a.npz", mu=np.zeros(2), sigma=np.eye(2))
    with pytest.raises(MetricsError, match=r"a\.npz does not say by which extractor"):
        Moments.published(path, {"mode": "tf1"})


GOOD = {"mu": np.zeros(2), "sigma": np.eye(2)}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"sigma": np.eye(2)}, "has no mu but sigma; expected an npz with mu, sigma: fetch"),
        ({}, "has no mu, sigma but nothing"),
        (GOOD, "has 2 features; expected 2048"),
        (GOOD | {"sigma": np.ones((2, 1))}, r"has shape \(2,\) and its covariance \(2, 1\)"),
        (GOOD | {"mu": np.zeros((1, 2))}, r"mean has shape \(1, 2\)"),
        (GOOD | {"mu": np.array([0, np.nan])}, "the stored mean has non-finite values"),
        (GOOD | {"sigma": np.diag([1, np.inf])}, "the stored covariance has non-finite values"),
        (GOOD | {"sigma": np.array([[1, 2], [0, 1.0]])}, "differs from its transpose by 2"),
        (GOOD | {"mu": np.array([{}, {}])}, "allow_pickle=False"),
        (GOOD | {"mu": np.array(["0", "1"])}, "mu is <U1, expected real numbers"),
        (GOOD | {"sigma": np.eye(2) * 1j}, "sigma is complex128"),
    ],
)
def test_what_is_wrong_with_others_files_is_reported(tmp_path, entries, message):
    path = write_npz(tmp_path / "a.npz", **entries)
    with pytest.raises(MetricsError, match=message) as caught:
        Moments.published(path, PUBLISHED, size=2048)
    assert str(path) in str(caught.value)


def damaged(path, how):
    """A file that is whole but for one thing."""
    rng = np.random.default_rng(0)
    np.savez_compressed(path, mu=rng.normal(size=50), sigma=np.cov(rng.normal(size=(50, 90))))
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[1000] ^= 255
    else:
        content = bytearray(b"\x80\x04N.")  # a pickle
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("how", ["truncated", "flipped", "pickle"])
def test_damaged_files_are_reported(tmp_path, how):
    with pytest.raises(MetricsError, match="cannot be read as feature statistics .*: fetch or"):
        Moments.published(damaged(tmp_path / "a.npz", how), PUBLISHED)


def test_what_counts_as_statistics(tmp_path):
    assert statistics.is_statistics(write_npz(tmp_path / "a.npz", **GOOD))
    assert not statistics.is_statistics(write_npz(tmp_path / "b.npz", arr_0=np.zeros(2)))
    assert not statistics.is_statistics(damaged(tmp_path / "c.npz", "truncated"))
    assert not statistics.is_statistics(tmp_path)
    assert not statistics.is_statistics(tmp_path / "missing.npz")


def test_expected_statistics():
    moments = FeatureStatistics.of(features_of(20)).moments(PROVENANCE | {"split": "eval"})
    moments.check_expected({"n": 20, "split": "eval", "extractor": "classifier"}, "a.npz")
    wrong = r"a\.npz has split 'eval' \(expected 'train'\), n 20 \(expected 50000\)"
    with pytest.raises(MetricsError, match=wrong):
        moments.check_expected({"split": "train", "n": 50_000, "shape": [8, 8, 1]}, "a.npz")


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda x: sum(x) > 1),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 1000),
)
def test_chunks_of_any_size_in_any_order_through_files(tmp_path_factory, sizes, order, seed):
    """As several processes, or a run that was killed, leave them."""
    folder = tmp_path_factory.mktemp("chunks")
    features = features_of(sum(sizes), seed=seed)
    paths = []
    for part in np.split(features, np.cumsum(sizes)[:-1]):
        paths.append(folder / f"{len(paths)}.npz")
        FeatureStatistics.of(part).save(paths[-1], PROVENANCE)
    order.shuffle(paths)
    parts = [FeatureStatistics.load(path, PROVENANCE) for path in paths]
    while len(parts) > 1:  # as a tree: neighbours in any grouping
        place = order.randrange(len(parts) - 1)
        parts[place : place + 2] = [parts[place].merge(parts[place + 1])]
    (merged,) = parts
    moments = merged.moments(PROVENANCE)
    assert moments.n == len(features)
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(moments.mu, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.sigma, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_chunks_of_another_extractor_or_kind_are_refused(tmp_path):
    made = FeatureStatistics.of(features_of(20))
    made.save(tmp_path / "a.npz", PROVENANCE)
    found = FeatureStatistics.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.m2, made.m2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    with pytest.raises(MetricsError, match=r"extractor_digest \('ab' against 'cd'\)"):
        FeatureStatistics.load(tmp_path / "a.npz", PROVENANCE | {"extractor_digest": "cd"})
    with pytest.raises(MetricsError, match="has no mu, sigma but n, mean, m2, provenance"):
        Moments.load(tmp_path / "a.npz")
    made.moments(PROVENANCE).save(tmp_path / "a.npz")
    with pytest.raises(MetricsError, match="has no mean, m2 but .* delete it, and run again"):
        FeatureStatistics.load(tmp_path / "a.npz")
    write_npz(tmp_path / "a.npz", n=-1, mean=np.zeros(2), m2=np.eye(2), provenance="{}")
    with pytest.raises(MetricsError, match="has -1 feature vectors"):
        FeatureStatistics.load(tmp_path / "a.npz")


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
    made = FeatureStatistics.of(features_of(20))
    made.save(tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()

    def fail(*arguments, **entries):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        made.merge(made).save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"extractor_digest": "cd"}, {"shape": [9, 9, 1]}, {"mode": "tf1"}]
)
def test_a_distance_needs_comparable_statistics(change):
    made = FeatureStatistics.of(features_of(20))
    one, other = made.moments(PROVENANCE), made.moments(PROVENANCE | change)
    with pytest.raises(MetricsError, match="cannot be compared"):
        statistics.distance(one, other)
    assert statistics.distance(one, other, despite=change) == pytest.approx(0.0, abs=1e-9)
