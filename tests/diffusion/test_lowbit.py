"""The low-bit loss against brute force, closed forms and limits."""

import math

import numpy as np
import pytest
from scipy import integrate

from sid2core.diffusion.lowbit import eps_error


def brute_force(bits, lam):
    """SNR E[(x - x_hat)^2] summed densely over z = alpha x + sigma eps, value by value."""
    alpha, sigma = 1 / math.sqrt(1 + math.exp(-lam)), 1 / math.sqrt(1 + math.exp(lam))
    values = np.linspace(-1, 1, 2**bits)
    count = int(2 * (alpha + 10 * sigma) / sigma * 24)
    total = 0.0
    edges = np.linspace(-alpha - 10 * sigma, alpha + 10 * sigma, count)
    step = edges[1] - edges[0]
    for z in np.array_split(edges, max(1, count * len(values) // 4_000_000)):
        exponent = -0.5 * ((z[:, None] - alpha * values) / sigma) ** 2
        joint = np.exp(exponent) / (len(values) * sigma * math.sqrt(2 * math.pi))
        posterior = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        x_hat = posterior @ values
        total += float((joint * (values - x_hat[:, None]) ** 2).sum()) * step
    return math.exp(lam) * total


@pytest.mark.parametrize(
    ("bits", "lam"),
    [(n, lam) for n in (1, 2, 3, 5) for lam in (-10.0, -2.0, 0.0, 1.5, 3.0, 6.0, 9.0, 16.0)]
    + [(n, lam) for n in (4, 6, 7, 8) for lam in (-10.0, 2.0, 8.0, 9.7, 11.0)]
    + [(8, 13.0)],
)
def test_against_brute_force(bits, lam):
    assert float(eps_error(bits, lam)) == pytest.approx(brute_force(bits, lam), abs=1e-7)


@pytest.mark.parametrize("lam", [-10.0, -4.0, 0.0, 1.0, 2.5, 4.0])
def test_one_bit_is_the_binary_channel(lam):
    """Two values ±1: E = s (1 - E tanh(s + sqrt(s) e)) with s the SNR."""
    snr = math.exp(lam)

    def integrand(e):
        gap = 2 / (1 + math.exp(min(2 * (snr + math.sqrt(snr) * e), 700)))  # 1 - tanh
        return gap * math.exp(-0.5 * e * e) / math.sqrt(2 * math.pi)

    expected = snr * integrate.quad(integrand, -12, 12, epsabs=1e-12, limit=400)[0]
    assert float(eps_error(1, lam)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("bits", range(1, 9))
def test_limits(bits):
    """SNR Var(x) in pure noise, with Var = (N + 1) / (3 (N - 1)); nothing left near data."""
    count = 2**bits
    variance = (count + 1) / (3 * (count - 1))
    snr = math.exp(-10)
    assert float(eps_error(bits, -10.0)) == pytest.approx(snr * variance, rel=2 * snr)
    assert float(eps_error(bits, 16.0)) < 1e-6
    assert float(eps_error(bits, 40.0)) == 0.0


def test_plateau_where_the_noise_is_between_spacing_and_range():
    """There 8 bits look continuous: E → 1, short of it by the range's two edges, like 1 / SNR^½."""
    assert float(eps_error(8, 8.0)) == pytest.approx(1.0, abs=0.02)
    short = [(1 - float(eps_error(8, lam))) * math.exp(lam / 2) for lam in (5.0, 6.0, 7.0)]
    np.testing.assert_allclose(short, short[0], rtol=5e-3)


def test_coarser_data_are_easier_once_their_values_show():
    levels = np.linspace(7, 16, 37)
    losses = np.stack([eps_error(bits, levels) for bits in range(1, 9)])
    assert np.all(np.diff(losses, axis=0) >= -1e-12)
    assert np.all((losses >= 0) & (losses <= 1))


def test_shapes_and_refusal():
    levels = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    found = eps_error(3, levels)
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    assert eps_error(3, 0.0).shape == ()
    assert found[0, 1] == eps_error(3, 1.0)
    with pytest.raises(ValueError, match="bits is 0"):
        eps_error(0, 0.0)
