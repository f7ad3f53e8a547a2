"""Weightings against their definitions, limits and the values that the paper states."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import expit

from sid2core.diffusion import lowbit
from sid2core.diffusion import weighting as wt

LOGSNR = np.linspace(-20.0, 20.0, 401).astype(np.float32)


def exact_edm(lam):
    return stats.norm.pdf(lam, 2.4, 2.4) * (np.exp(-lam) + 0.25)


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2, jnp.float32(-1.0)])
def test_sigmoid(bias):
    found = wt.sigmoid(jnp.asarray(LOGSNR), bias)
    np.testing.assert_allclose(found, expit(float(bias) - LOGSNR.astype(np.float64)), rtol=3e-6)


def test_edm_is_the_loss_of_its_paper():
    """Weight (s² + .25) / (.5 s)² on the x-error, log s ~ N(-1.2, 1.2²), turned to eps and lam.

    The x-error is s² times the eps-error and d log s = -d lam / 2; a constant 4 remains.
    """
    lam = LOGSNR.astype(np.float64)
    s = np.exp(-lam / 2)
    density = stats.norm.pdf(np.log(s), -1.2, 1.2) / 2
    per_lam = density * (s**2 + 0.25) / (0.5 * s) ** 2 * s**2
    np.testing.assert_allclose(4.0 * wt.edm(jnp.asarray(LOGSNR)), per_lam, rtol=3e-5)


def test_edm_peak():
    lam = np.linspace(-20.0, 20.0, 400_001)
    assert lam[np.argmax(exact_edm(lam))] == pytest.approx(-3.308, abs=5e-4)
    peak = optimize.brentq(lambda lam: (lam - 2.4) / 5.76 + 1 / (1 + math.exp(lam) / 4), -6, 0)
    np.testing.assert_allclose(wt.EDM_PEAK, peak, atol=1e-6)


def test_edm_monotonic_is_flat_below_its_peak_and_edm_above():
    lam = jnp.asarray(LOGSNR)
    edm, monotonic = wt.edm(lam), wt.edm_monotonic(lam)
    below = LOGSNR < -3.309
    np.testing.assert_allclose(monotonic[below], exact_edm(wt.EDM_PEAK), rtol=1e-6)
    np.testing.assert_array_equal(monotonic[~below], edm[~below])
    assert np.all(np.diff(monotonic) <= 0)
    assert np.all(np.diff(edm)[LOGSNR[1:] < -3.31] > 0)


def test_edm_resolution_shift_moves_the_peak():
    shift = wt.edm_resolution_shift(256)
    assert shift == pytest.approx(-2 * math.log(4))
    lam = jnp.asarray(LOGSNR)
    np.testing.assert_array_equal(wt.edm(lam, shift), wt.edm(lam - shift))
    assert LOGSNR[np.argmax(wt.edm(lam, shift))] == pytest.approx(wt.EDM_PEAK + shift, abs=0.06)
    flat = wt.edm_monotonic(lam, shift)
    above = wt.EDM_PEAK + shift < LOGSNR
    assert np.all(flat[~above] == flat[0])
    np.testing.assert_array_equal(flat[above], wt.edm(lam, shift)[above])


def test_elbo_is_one():
    np.testing.assert_array_equal(wt.elbo(jnp.asarray(LOGSNR)), np.ones(401))


def test_time_shifted_bias():
    bias = wt.TimeShiftedBias(start=-8.0, end=-3.0, steps=100_000)
    steps = [-10, 0, 20_000, 100_000, 1_000_000]
    expected = [-8.0, -8.0, -7.0, -3.0, -3.0]
    np.testing.assert_allclose([bias(step) for step in steps], expected, rtol=1e-6)
    assert jax.jit(bias)(jnp.int32(50_000)) == pytest.approx(-5.5)
    with pytest.raises(ValueError, match="steps is 0"):
        wt.TimeShiftedBias(-8.0, -3.0, 0)


def test_a_bias_that_moves_needs_the_step():
    bias = wt.TimeShiftedBias(start=-8.0, end=-3.0, steps=10)
    lam = jnp.asarray(LOGSNR)
    np.testing.assert_array_equal(wt.sigmoid(lam, bias, 5), wt.sigmoid(lam, bias(5)))
    with pytest.raises(TypeError, match="no step is given: call it with the training step"):
        wt.sigmoid(lam, bias)


@pytest.mark.parametrize("weight", [wt.edm, wt.edm_monotonic, wt.elbo, wt.low_bit_mixture])
def test_numbers_are_taken_as_arrays(weight):
    assert weight(0.5).dtype == wt.sigmoid(0.5, 0.0).dtype == jnp.float32
    np.testing.assert_allclose(weight(0.5), weight(jnp.array([0.5]))[0], rtol=1e-6)


CASES = [
    (wt.SigmoidWeighting(-3.0), lambda lam, step: wt.sigmoid(lam, -3.0)),
    (
        wt.SigmoidWeighting(wt.TimeShiftedBias(-8.0, -3.0, 100)),
        lambda lam, step: wt.sigmoid(lam, -8.0 + 5.0 * min(step / 100, 1.0)),
    ),
    (wt.EdmWeighting(), lambda lam, step: wt.edm(lam)),
    (wt.EdmWeighting(-2.0), lambda lam, step: wt.edm(lam + 2.0)),
    (wt.EdmMonotonicWeighting(), lambda lam, step: wt.edm_monotonic(lam)),
    (wt.EdmMonotonicWeighting(-2.0), lambda lam, step: wt.edm_monotonic(lam, -2.0)),
    (wt.ElboWeighting(), lambda lam, step: wt.elbo(lam)),
    (wt.LowBitWeighting(128), lambda lam, step: wt.low_bit_mixture(lam, image_size=128)),
]


@pytest.mark.parametrize(("weighting", "function"), CASES, ids=[str(case[0]) for case in CASES])
def test_every_weighting_has_one_signature_and_is_static_under_jit(weighting, function):
    @functools.partial(jax.jit, static_argnums=0)
    def weigh(weighting, logsnr, step):
        return weighting(logsnr, step)

    for step in (0, 40, 1000):
        found = weigh(weighting, jnp.asarray(LOGSNR), jnp.int32(step))
        assert found.shape == LOGSNR.shape
        expected = function(jnp.asarray(LOGSNR), step)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)


def test_low_bit_mixture_is_the_ratio_of_losses():
    levels = np.array([-9.3, -1.2, 0.0, 4.44, 7.7, 9.1, 10.3, 11.9, 13.0])
    mixture = sum(
        p * lowbit.eps_error(n, levels) for n, p in zip((8, 7, 6, 5), (1, 4, 4, 6), strict=True)
    )
    expected = mixture / 15 / lowbit.eps_error(8, levels)
    np.testing.assert_allclose(wt.low_bit_mixture(jnp.asarray(levels)), expected, atol=2e-4)


def test_low_bit_mixture_tends_to_its_limits():
    variance = {n: (2**n + 1) / (3 * (2**n - 1)) for n in (5, 6, 7, 8)}
    noise = (variance[8] + 4 * variance[7] + 4 * variance[6] + 6 * variance[5]) / 15 / variance[8]
    found = wt.low_bit_mixture(jnp.array([-20.0, 20.0]))
    np.testing.assert_allclose(found, [noise, 1 / 15], rtol=1e-4)
    np.testing.assert_allclose(wt.low_bit_mixture(jnp.asarray(LOGSNR), (8,), (3.0,)), 1.0)


def test_low_bit_mixture_resembles_the_sigmoid():
    """Supplement A, Figure 12: near one where the bits agree, falling around log-SNR 10.

    The two *losses* are nowhere far apart, and much closer than the unweighted one is to either.
    """
    levels = np.linspace(-5, 16, 200)
    eight = lowbit.eps_error(8, levels)
    mixture = eight * np.asarray(wt.low_bit_mixture(jnp.asarray(levels)), np.float64)
    weighted = eight * expit(10.7 - levels)
    assert np.max(np.abs(mixture - weighted)) < 0.27
    assert np.abs(mixture - weighted).mean() < np.abs(mixture - eight).mean() / 2


def test_low_bit_mixture_for_images_is_shifted():
    lam = jnp.asarray(LOGSNR)
    shifted = wt.low_bit_mixture(lam + 2 * math.log(128))
    np.testing.assert_allclose(wt.low_bit_mixture(lam, image_size=128), shifted, rtol=1e-4)


@pytest.mark.parametrize(
    ("bits", "proportions", "message"),
    [
        ((8, 7), (1.0,), "expected one for each"),
        ((), (), "expected one for each"),
        ((8,), (0.0,), "not all zero"),
        ((8, 7), (2.0, -1.0), "none negative"),
        ((9,), (1.0,), "from 1 to 8"),
    ],
)
def test_refuses_invalid_mixtures(bits, proportions, message):
    with pytest.raises(ValueError, match=message):
        wt.LowBitWeighting(128, bits, proportions)
