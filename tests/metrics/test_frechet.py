"""Closed forms first: each case's distance is known without any matrix root."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.metrics import frechet
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.frechet import Normal
from tests.metrics import peers

SIZES = [1, 2, 7, 64]
SCALES = [1e-30, 1e-8, 1.0, 1e12]


def orthogonal(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def positive(rng, size, rank=None):
    factor = rng.normal(size=(size, rank or 2 * size))
    return factor @ factor.T


def distance(sigma1, sigma2, mu=None):
    zero = np.zeros(len(sigma1))
    return frechet.frechet_distance(zero, sigma1, zero if mu is None else mu, sigma2)


def assert_close(found, expected, sigma1, sigma2):
    assert abs(found - expected) <= 1e-10 * (np.trace(sigma1) + np.trace(sigma2))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_commuting(size, scale):
    """Σ (√a - √b)² where both share eigenvectors."""
    rng = np.random.default_rng(size)
    basis = orthogonal(rng, size)
    a, b = scale * 10.0 ** rng.uniform(-6, 0, (2, size))
    sigma1, sigma2 = basis * a @ basis.T, basis * b @ basis.T
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert_close(distance(sigma1, sigma2), expected, sigma1, sigma2)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rank", [None, 3, 1])
@pytest.mark.parametrize("size", [3, 7, 64])
def test_transport_by_a_known_map(size, rank, scale):
    """S2 = T S1 T with T ≥ 0: T is the optimal map, so the distance is tr (I - T) S1 (I - T).

    With rank < size there are fewer samples than features, and S1 and S2 do not commute.
    """
    rng = np.random.default_rng(size)
    transport = positive(rng, size) / (2 * size)
    sigma1 = scale * positive(rng, size, rank)
    sigma2 = transport @ sigma1 @ transport
    sigma2 = (sigma2 + sigma2.T) / 2
    rest = np.eye(size) - transport
    expected = np.trace(rest @ sigma1 @ rest)
    assert_close(distance(sigma1, sigma2), expected, sigma1, sigma2)
    assert_close(distance(sigma2, sigma1), expected, sigma1, sigma2)


def transported(sigma1, transport):
    """S2 = T S1 T, and the distance tr (I - T) S1 (I - T)."""
    sigma2 = transport @ sigma1 @ transport
    rest = np.eye(len(sigma1)) - transport
    return (sigma2 + sigma2.T) / 2, np.trace(rest @ sigma1 @ rest)


@pytest.mark.parametrize("least", [1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize("size", [7, 64])
def test_near_singular(size, least):
    """Eigenvalues spread evenly in logarithm from ``least`` to 1; the map does not commute."""
    rng = np.random.default_rng(size)
    basis = orthogonal(rng, size)
    sigma1 = basis * np.geomspace(least, 1, size) @ basis.T
    sigma1 = (sigma1 + sigma1.T) / 2
    sigma2, expected = transported(sigma1, positive(rng, size) / (2 * size))
    assert_close(distance(sigma1, sigma2), expected, sigma1, sigma2)


@pytest.mark.parametrize("least", [1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize("size", [7, 64])
def test_near_singular_beside_one_that_is_not(size, least):
    """Rounding of a small eigenvalue l shows as its share of √l, where the other has much."""
    rng = np.random.default_rng(size)
    basis, values = orthogonal(rng, size), np.geomspace(least, 1, size)
    sigma1 = basis * values @ basis.T
    expected = ((1 - np.sqrt(values)) ** 2).sum()
    assert_close(distance(sigma1, np.eye(size)), expected, sigma1, np.eye(size))


@pytest.mark.parametrize("count", [2, 20, 63])
def test_fewer_samples_than_features(count):
    """The covariance of features mapped by T is T S T exactly, of rank count - 1."""
    rng = np.random.default_rng(count)
    transport, features = positive(rng, 64) / 128, 5 + rng.normal(size=(count, 64))
    sigma1, sigma2 = (np.cov(one, rowvar=False) for one in (features, features @ transport))
    rest = np.eye(64) - transport
    assert_close(distance(sigma1, sigma2), np.trace(rest @ sigma1 @ rest), sigma1, sigma2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rank", [None, 1])
def test_a_set_with_itself(size, rank):
    sigma = positive(np.random.default_rng(size), size, rank)
    assert 0.0 <= distance(sigma, sigma) <= 1e-13 * np.trace(sigma)


@pytest.mark.parametrize("scale", SCALES)
def test_disjoint_supports(scale):
    """Nothing of one overlaps the other: the distance is tr S1 + tr S2."""
    rng = np.random.default_rng(0)
    basis = orthogonal(rng, 20)
    sigma1 = scale * basis[:, :9] @ positive(rng, 9) @ basis[:, :9].T
    sigma2 = scale * basis[:, 9:] @ positive(rng, 11) @ basis[:, 9:].T
    expected = np.trace(sigma1) + np.trace(sigma2)
    assert_close(distance(sigma1, sigma2), expected, sigma1, sigma2)


def test_two_lines():
    """S1 = u uᵀ, S2 = v vᵀ: |u|² + |v|² - 2 |u·v|."""
    u, v = np.random.default_rng(0).normal(size=(2, 30))
    sigma1, sigma2 = np.outer(u, u), np.outer(v, v)
    assert_close(distance(sigma1, sigma2), u @ u + v @ v - 2 * abs(u @ v), sigma1, sigma2)


def test_means_and_empty_covariances():
    mu, zero, sigma = np.arange(4.0), np.zeros((4, 4)), np.diag([4.0, 3.0, 2.0, 1.0])
    assert distance(zero, zero, mu) == 14.0
    assert distance(zero, sigma) == 10.0
    assert distance(sigma, sigma, mu) == pytest.approx(14.0, rel=1e-14)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_against_a_matrix_square_root(size, seed):
    rng = np.random.default_rng(seed)
    sigma1, sigma2 = (positive(rng, size, 20 * size) for _ in range(2))
    mu = rng.normal(size=size)
    root = scipy.linalg.sqrtm(sigma1 @ sigma2).real
    expected = mu @ mu + np.trace(sigma1 + sigma2 - 2 * root)
    assert_close(distance(sigma1, sigma2, mu), expected, sigma1, sigma2)


def test_covariances_that_once_were_float32_are_accepted():
    features = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    sigma = np.cov(features, rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(sigma.astype(np.float64))[0] < 0
    assert distance(sigma, sigma) <= 1e-6 * np.trace(sigma)


@pytest.mark.parametrize("size", [256, pytest.param(2048, marks=pytest.mark.slow)])
def test_equal_covariances_leave_the_means(size):
    """pytorch-fid's own case: unit covariances of 2048 features, means of zeros and of ones."""
    mu, sigma = np.ones(size), np.eye(size)
    assert frechet.frechet_distance(0 * mu, sigma, mu, sigma) == size


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_against_pytorch_fid(size, seed):
    """Full-rank covariances, of which its matrix root is good for."""
    rng = np.random.default_rng(seed)
    one, other = ((rng.normal(size=size), positive(rng, size, 20 * size)) for _ in range(2))
    expected = peers.frechet_distance(*one, *other)
    scale = np.trace(one[1] + other[1])
    assert frechet.frechet_distance(*one, *other) == pytest.approx(expected, abs=1e-9 * scale)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_transport_maps_one_covariance_to_the_other(size, rank, seed):
    rng = np.random.default_rng(seed)
    sigma, other = positive(rng, size, 20 * size), positive(rng, size, rank)
    root = frechet.transport(Normal(np.zeros(size), sigma), Normal(np.zeros(size), other))
    mapped = root @ root.T @ sigma @ root @ root.T
    np.testing.assert_allclose(mapped, other, rtol=0, atol=1e-8 * np.abs(other).max())


def test_nothing_is_transported_to_or_from_a_point():
    point, spread = Normal(np.zeros(2), np.zeros((2, 2))), Normal(np.zeros(2), np.eye(2))
    assert frechet.transport(spread, point).shape == (2, 0)
    assert frechet.transport(point, spread).shape == (2, 0)


def test_the_root_of_a_distribution_is_computed_once(monkeypatch):
    rng, calls, root = np.random.default_rng(0), [], frechet._root
    monkeypatch.setattr(frechet, "_root", lambda *args: (calls.append(1), root(*args))[1])
    target = Normal(rng.normal(size=5), positive(rng, 5))
    for _ in range(3):
        mu, sigma = rng.normal(size=5), positive(rng, 5)
        found = frechet.distance(Normal(mu, sigma), target)
        assert len(calls) == 2
        assert found == frechet.frechet_distance(mu, sigma, target.mean, target.covariance)
        del calls[1:]


GOOD = (np.zeros(2), np.eye(2))


@pytest.mark.parametrize(
    ("mu", "sigma", "message"),
    [
        (np.zeros(3), np.eye(3), "first has 2 features, the second 3"),
        (np.zeros(3), np.eye(2), "second mean has shape"),
        (np.zeros((1, 2)), np.eye(2), "second mean has shape"),
        (np.zeros(0), np.zeros((0, 0)), "second mean has shape"),
        (np.array([0, np.nan]), np.eye(2), "second mean has non-finite"),
        (np.zeros(2), np.diag([1, np.inf]), "second covariance has non-finite"),
        (np.zeros(2), np.array([[1, 0.5], [0.4, 1]]), "second covariance differs from its trans"),
        (np.zeros(2), np.diag([1.0, -0.1]), "second covariance has eigenvalue -0.1"),
    ],
)
def test_what_is_no_pair_of_moments_is_refused(mu, sigma, message):
    with pytest.raises(MetricsError, match=message):
        frechet.frechet_distance(*GOOD, mu, sigma)


def test_bias_constant_in_one_dimension():
    """C = s + s / 2: the mean's error, and that of the standard deviation."""
    assert frechet.bias_constant([[4.0]]) == pytest.approx(6.0, rel=1e-14)


def test_bias_constant_predicts_simulated_bias():
    rng = np.random.default_rng(0)
    sigma = positive(rng, 5)
    factor = np.linalg.cholesky(sigma)
    count, repeats = 1000, 1000
    total = 0.0
    for _ in range(repeats):
        samples = rng.normal(size=(count, 5)) @ factor.T
        found = np.cov(samples, rowvar=False)
        total += frechet.frechet_distance(np.zeros(5), sigma, samples.mean(axis=0), found)
    # The mean of 1000 repeats scatters by about 1.5 %.
    assert total / repeats * count == pytest.approx(frechet.bias_constant(sigma), rel=0.05)


def test_bias_constant_ignores_empty_directions():
    sigma = np.zeros((6, 6))
    sigma[:3, :3] = positive(np.random.default_rng(0), 3)
    assert frechet.bias_constant(sigma) == pytest.approx(frechet.bias_constant(sigma[:3, :3]))
    assert frechet.bias_constant(np.zeros((3, 3))) == 0.0


@pytest.mark.parametrize("tiny", [4e-16, 2e-13, 1e-20])
def test_features_of_tiny_variance_count_beside_large_ones(tiny):
    """Exact in float64 as they stand, so nothing of them is rounding."""
    size = 64
    values, zero = np.ones(size), np.zeros(size)
    values[size // 2 :] = tiny
    for other in (np.ones(size), values[::-1]):
        expected = np.square(np.sqrt(values) - np.sqrt(other)).sum()
        found = frechet.frechet_distance(zero, np.diag(values), zero, np.diag(other))
        assert abs(found - expected) <= 1e-10 * (values.sum() + other.sum())


@pytest.mark.parametrize("value", [1j, "1"])
def test_what_is_no_real_number_is_refused(value):
    with pytest.raises(MetricsError, match="expected real numbers"):
        frechet.frechet_distance([value], [[1.0]], [0.0], [[1.0]])
