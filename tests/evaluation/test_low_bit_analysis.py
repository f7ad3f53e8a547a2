"""The low-bit view against integrals written anew, limits, and what densities must sum to."""

import math

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special

from sid2core.diffusion.losses import PowerLoss, WeightedLoss
from sid2core.diffusion.schedule import Cosine, CosineInterpolated
from sid2core.diffusion.weighting import (
    EDM_PEAK,
    ElboWeighting,
    LowBitWeighting,
    SigmoidWeighting,
    TimeShiftedBias,
)
from sid2core.evaluation import low_bit_analysis

LEVELS = np.array([-10.0, -3.0, 0.0, 2.5, 5.0, 7.0, 8.5, 9.8, 11.0, 12.5, 16.0])
MIXTURE = {8: 1.0, 7: 4.0, 6: 4.0, 5: 6.0}


def posterior_error(bits, lam):
    """E (eps - eps_hat)^2 as 1 - E[eps_hat^2], by Simpson's rule over z.

    eps_hat = -sigma (log q)'(z), q the mixture of normals that z follows: Tweedie's formula, so
    nothing of the tested code's way (posterior variances of x) is repeated.
    """
    alpha, sigma = math.sqrt(special.expit(lam)), math.sqrt(special.expit(-lam))
    means = alpha * np.linspace(-1, 1, 2**bits)
    total = 0.0
    # Beyond 9 deviations from every mean nothing is left; 16 points a deviation.
    edges = np.linspace(means[0] - 9 * sigma, means[-1] + 9 * sigma, 65)
    for low, high in zip(edges, edges[1:], strict=False):
        z = np.linspace(low, high, 2 * math.ceil(8 * (high - low) / sigma) + 1)
        near = means[(means > low - 12 * sigma) & (means < high + 12 * sigma)]
        noise = (z[:, None] - near) / sigma
        density = np.exp(-0.5 * noise**2) / (2**bits * sigma * math.sqrt(2 * math.pi))
        whole = np.maximum(density.sum(axis=1), 1e-300)
        total += integrate.simpson((density * noise).sum(axis=1) ** 2 / whole, x=z)
    return 1 - total


@pytest.fixture(scope="module")
def expected():
    """Precision → its error at LEVELS, integrated independently."""
    return {bits: np.array([posterior_error(bits, lam) for lam in LEVELS]) for bits in MIXTURE}


def figure12(levels=LEVELS, bias=10.7, mixture=MIXTURE):
    errors = low_bit_analysis.eps_errors([*mixture, low_bit_analysis.FULL_BITS], levels)
    return low_bit_analysis.figure12(levels, errors, bias, mixture)


def curve(table, name):
    return table[table["curve"] == name]["value"].to_numpy()


def test_figure12_is_its_integrals(expected):
    table = figure12()
    weighted = special.expit(10.7 - LEVELS) * expected[8]
    np.testing.assert_allclose(curve(table, "sigmoid_weighted"), weighted, rtol=0, atol=1e-6)
    mixed = (expected[8] + 4 * expected[7] + 4 * expected[6] + 6 * expected[5]) / 15
    np.testing.assert_allclose(curve(table, "mixture"), mixed, rtol=0, atol=1e-6)
    assert list(table) == ["logsnr", "curve", "value"]
    np.testing.assert_array_equal(table["logsnr"], np.tile(LEVELS, 2))


def test_the_unit_of_proportions_does_not_matter():
    scaled = {bits: 0.3 * share for bits, share in MIXTURE.items()}
    first, second = figure12(), figure12(mixture=scaled)
    np.testing.assert_allclose(first["value"], second["value"], rtol=1e-12)


def test_a_mixture_of_8_bits_alone_is_the_bound_without_weight():
    """There sigmoid(b - lam) → 1 for a bias far above every log-SNR, and no gap is left."""
    gaps = low_bit_analysis.gaps(figure12(bias=60.0, mixture={8: 2.0}))
    assert gaps["figure12_gap_max"] < 1e-6


def test_the_mixture_is_what_low_bit_training_weighs():
    weighting = LowBitWeighting(1, tuple(MIXTURE), tuple(MIXTURE.values()))
    levels = LEVELS[:-1].astype(np.float32)
    errors = low_bit_analysis.eps_errors([8], LEVELS)[8][:-1]
    np.testing.assert_allclose(
        np.asarray(weighting(jnp.asarray(levels), 0)) * errors,
        curve(figure12(), "mixture")[:-1],
        atol=1e-4,
    )


def test_gaps_are_those_of_the_two_curves(expected):
    weighted = special.expit(10.7 - LEVELS) * expected[8]
    mixed = sum(share * expected[bits] for bits, share in MIXTURE.items()) / 15
    gap = np.abs(weighted - mixed)
    found = low_bit_analysis.gaps(figure12())
    assert found["figure12_gap_max"] == pytest.approx(gap.max(), abs=1e-6)
    assert found["figure12_gap_mean"] == pytest.approx(gap.mean(), abs=1e-6)
    assert found["figure12_gap_max_logsnr"] == LEVELS[gap.argmax()]


def test_gaps_have_no_sign():
    table = pd.DataFrame(
        {
            "logsnr": [0.0, 1.0, 2.0] * 2,
            "curve": ["sigmoid_weighted"] * 3 + ["mixture"] * 3,
            "value": [0.1, 0.5, 0.2, 0.2, 0.1, 0.9],
        }
    )
    found = low_bit_analysis.gaps(table)
    assert found["figure12_gap_max"] == pytest.approx(0.7)
    assert found["figure12_gap_max_logsnr"] == 2.0
    assert found["figure12_gap_mean"] == pytest.approx(1.2 / 3)


def test_figure11_ends_at_its_limits():
    """In noise SNR Var(x), Var = (N + 1) / (3 (N - 1)); near data nothing is left to find."""
    levels = np.array([-10.0, 16.0])
    table = low_bit_analysis.figure11(levels, low_bit_analysis.eps_errors(range(1, 9), levels))
    assert list(table) == ["logsnr", "bits", "eps_error"]
    assert table["bits"].tolist() == [bits for bits in range(1, 9) for _ in levels]
    ends = table.pivot(index="bits", columns="logsnr", values="eps_error")
    count = 2.0 ** ends.index.to_numpy()
    snr = math.exp(-10)
    np.testing.assert_allclose(ends[-10.0], snr * (count + 1) / (3 * (count - 1)), rtol=2 * snr)
    assert (ends[16.0] < 1e-6).all()
    assert ends.loc[1, 16.0] == 0.0


SCHEDULES = [
    (CosineInterpolated(8, 8, None, -10.0, 10.0, "sid"), 8),
    (CosineInterpolated(512), 512),
    (CosineInterpolated(64, 32, 64, -10.0, 10.0, "listing"), 64),
    (Cosine(-6.0, 9.0), 32),
]


@pytest.mark.parametrize(("schedule", "size"), SCHEDULES)
def test_the_density_is_that_of_uniform_times(schedule, size):
    table = low_bit_analysis.emphasis(schedule, WeightedLoss(SigmoidWeighting(4.0)), 0, size, 2001)
    part = table[table["curve"] == "density"]
    t, logsnr, density = (part[name].to_numpy() for name in ("t", "logsnr", "value"))
    assert np.trapezoid(density, logsnr) == pytest.approx(1.0, abs=1e-4)
    # P(lam < lam_i) = 1 - t_i.
    mass = integrate.cumulative_trapezoid(density, logsnr, initial=0.0)
    np.testing.assert_allclose(mass, 1 - t, atol=1e-4)
    np.testing.assert_allclose(schedule.logsnr_exact(t[50:-50]), logsnr[50:-50], atol=1e-3)
    assert (t[0], t[-1]) == (1.0, 0.0)
    np.testing.assert_allclose(logsnr[[0, -1]], schedule.logsnr_exact(np.array([1.0, 0.0])))


@pytest.mark.parametrize(("schedule", "size"), SCHEDULES)
def test_weights_are_those_named(schedule, size):
    table = low_bit_analysis.emphasis(schedule, WeightedLoss(SigmoidWeighting(-3.0)), 0, size, 301)
    lam = table[table["curve"] == "weight"]["logsnr"].to_numpy()
    weight = curve(table, "weight")
    np.testing.assert_allclose(weight, special.expit(-3.0 - lam), rtol=3e-6)
    np.testing.assert_allclose(curve(table, "weighted_density"), weight * curve(table, "density"))

    def edm(level):  # arXiv 2206.00364: N(lam; 2.4, 2.4^2) (e^-lam + 0.25), up to a factor
        return np.exp(-0.5 * ((level - 2.4) / 2.4) ** 2) * (np.exp(-level) + 0.25)

    shifted = np.maximum(lam - 2 * math.log(64 / size), EDM_PEAK)
    np.testing.assert_allclose(curve(table, "edm_monotonic"), edm(shifted) / edm(EDM_PEAK), 3e-5)


def test_the_mean_weight_of_a_draw_is_the_area_under_the_weighted_density():
    schedule, bias = CosineInterpolated(8, 8), 4.0
    table = low_bit_analysis.emphasis(schedule, WeightedLoss(SigmoidWeighting(bias)), 0, 8, 4001)
    part = table[table["curve"] == "weighted_density"]
    area = np.trapezoid(part["value"], part["logsnr"])
    times = (np.arange(200_000) + 0.5) / 200_000
    drawn = special.expit(bias - schedule.logsnr_exact(times)).mean()
    assert area == pytest.approx(drawn, abs=1e-4)


def test_without_weighting_all_draws_count():
    table = low_bit_analysis.emphasis(Cosine(), WeightedLoss(ElboWeighting()), 0, 64, 101)
    np.testing.assert_array_equal(curve(table, "weight"), 1.0)
    np.testing.assert_array_equal(curve(table, "weighted_density"), curve(table, "density"))


@pytest.mark.parametrize(("step", "bias"), [(0, -8.0), (50, -5.0), (100, -2.0), (900, -2.0)])
def test_a_weight_that_moves_is_read_at_the_step(step, bias):
    moving = WeightedLoss(SigmoidWeighting(TimeShiftedBias(-8.0, -2.0, 100)))
    found = low_bit_analysis.emphasis(Cosine(), moving, step, 8, 101)
    still = low_bit_analysis.emphasis(Cosine(), WeightedLoss(SigmoidWeighting(bias)), 0, 8, 101)
    np.testing.assert_allclose(found["value"], still["value"], rtol=1e-5)


def test_the_power_loss_is_shown_by_sub_band():
    """2^(l(s) - 4) sigmoid(b - l(s) log 2 - lam), l(s) the letters L of the band's name."""
    table = low_bit_analysis.emphasis(Cosine(), PowerLoss(-1.0, 2), 0, 8, 101)
    lam = table[table["curve"] == "weight"]["logsnr"].to_numpy()
    passes = {"weight": 4, "weight_LLLH": 3, "weight_LLHL": 3, "weight_LLHH": 2}
    passes |= {"weight_LH": 1, "weight_HL": 1, "weight_HH": 0}
    others = ["edm_monotonic", "density", "weighted_density"]
    assert table["curve"].unique().tolist() == ["weight", *others, *list(passes)[1:]]
    for name, count in passes.items():
        expected = 2.0 ** (count - 4) * special.expit(-1.0 - count * math.log(2) - lam)
        np.testing.assert_allclose(curve(table, name), expected, rtol=1e-5)
    bands = np.array([curve(table, name) for name in passes])
    assert (bands[0] >= bands * (1 - 1e-6)).all()
    # Pure noise, as for the sigmoid weighting; towards data all bands count alike.
    assert bands[0, 0] == pytest.approx(1.0, abs=3e-3)
    np.testing.assert_allclose(bands[:, -1], bands[0, -1], rtol=1e-2)
    counted = curve(table, "weight") * curve(table, "density")
    np.testing.assert_allclose(curve(table, "weighted_density"), counted, rtol=1e-6)


def test_an_unsplit_power_loss_weighs_as_the_sigmoid_loss():
    power = low_bit_analysis.emphasis(Cosine(), PowerLoss(-1.0, 0), 0, 8, 101)
    sigmoid = low_bit_analysis.emphasis(Cosine(), WeightedLoss(SigmoidWeighting(-1.0)), 0, 8, 101)
    pd.testing.assert_frame_equal(power, sigmoid)
