"""Losses: identities between their forms, invariance to the schedule, gradients at the ends."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import expit

from sid2core.diffusion import lowbit
from sid2core.diffusion import parametrisation as par
from sid2core.diffusion import weighting as wt
from sid2core.diffusion.haar import from_subbands, subbands
from sid2core.diffusion.losses import (
    Noised,
    Normalisation,
    PowerLoss,
    WeightedLoss,
    power_loss,
    sigmoid_loss,
    weighted_mse,
)
from sid2core.diffusion.schedule import Cosine, CosineInterpolated, ShiftedCosine
from sid2core.diffusion.times import antithetic_times

# Small programs spend their time in the compiler: this compiles them three times faster.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
power = compiled(power_loss, static_argnames=("levels", "normalisation"))

WEIGHTINGS = [
    wt.SigmoidWeighting(-3.0),
    wt.EdmWeighting(),
    wt.EdmMonotonicWeighting(),
    wt.ElboWeighting(),
    wt.LowBitWeighting(4),
]


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    low=st.floats(-20, 20),
    bias=st.floats(-8, 3),
    slope=st.floats(1, 1000),
)
def test_the_sigmoid_loss_in_x_eps_and_v(seed, low, bias, slope):
    """The printed form, the eps-weighted form and the v-form, in float64 from one (x, eps, v_hat).

    The predictions share one z, so x_hat and eps_hat follow from v_hat.
    """
    lam = np.linspace(low, 20.0, 8).astype(np.float32)
    exact = lam.astype(np.float64)[:, None]
    alpha, sigma = np.sqrt(expit(exact)), np.sqrt(expit(-exact))
    x, eps, v_error = (np.asarray(draw(seed + i, 8, 12), np.float64) for i in range(3))
    v = alpha * eps - sigma * x
    v_hat = v + v_error
    x_hat, eps_hat = x - sigma * v_error, eps + alpha * v_error
    expected = 0.5 * slope * expit(bias - exact[:, 0]) * np.mean((eps - eps_hat) ** 2, axis=1)
    form_in_v = 0.5 * slope * expit(bias - exact[:, 0]) * expit(exact[:, 0])
    np.testing.assert_allclose(expected, form_in_v * np.mean((v - v_hat) ** 2, axis=1), rtol=1e-9)

    logsnr, neg = jnp.asarray(lam), jnp.full(8, slope, jnp.float32)
    weight = wt.sigmoid(logsnr, bias)
    # Only the error matters; taken against zero it is not lost in rounding x or eps.
    for space, error in (("x", x - x_hat), ("v", v - v_hat), ("eps", eps - eps_hat)):
        error = jnp.asarray(error, jnp.float32)
        found = weighted_mse(error, jnp.zeros_like(error), logsnr, neg, weight, space)
        np.testing.assert_allclose(found, expected, rtol=2e-5)
    error = jnp.asarray(x - x_hat, jnp.float32)
    printed = sigmoid_loss(error, jnp.zeros_like(error), logsnr, neg, bias)
    np.testing.assert_allclose(printed, expected, rtol=2e-5)


def test_the_v_form_from_a_network_output():
    """Through the float32 conversions of the package itself, at noise levels where x is exact."""
    logsnr = jnp.linspace(-12.0, 4.0, 16)
    x, eps, v_hat = (draw(i, 16, 8, 8, 3) for i in range(3))
    z = par.diffuse(x, eps, logsnr)
    neg, weight = jnp.full(16, 7.0), wt.edm(logsnr)
    in_x = weighted_mse(x, par.x_from_v(z, v_hat, logsnr), logsnr, neg, weight)
    in_v = weighted_mse(par.v_from_x(z, x, logsnr), v_hat, logsnr, neg, weight, "v")
    in_eps = weighted_mse(eps, par.eps_from_v(z, v_hat, logsnr), logsnr, neg, weight, "eps")
    np.testing.assert_allclose(in_v, in_x, rtol=1e-4)
    np.testing.assert_allclose(in_eps, in_x, rtol=1e-4)


def test_large_log_snr_does_not_overflow():
    logsnr = jnp.array([-80.0, 0.0, 80.0])
    error, neg = jnp.ones((3, 4)), jnp.ones(3)
    found = weighted_mse(error, jnp.zeros((3, 4)), logsnr, neg, wt.sigmoid(logsnr, -3.0))
    expected = 0.5 * np.exp(-3.0) * expit(np.array([-77.0, 3.0, 83.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(weighted_mse(error, error, logsnr, neg, jnp.zeros(3))[2]) == 0.0


def test_the_gradient_of_a_zero_weight_is_that_of_any_other():
    """The loss is linear in the weight: dL/dw = 1/2 (-lam') e^lam mean((x - x_hat)^2)."""
    logsnr, weight = jnp.array([-20.0, 0.0, 20.0] * 2), jnp.repeat(jnp.array([0.0, 0.3]), 3)
    error, neg = draw(0, 6, 12), jnp.full(6, 7.0)

    @jax.grad
    def slope(weight):
        return jnp.sum(weighted_mse(error, jnp.zeros_like(error), logsnr, neg, weight))

    expected = 0.5 * 7.0 * np.exp(logsnr) * np.mean(np.square(error), axis=1)
    np.testing.assert_allclose(slope(weight), expected, rtol=2e-5)
    far = jnp.array([100.0, -100.0])
    found = weighted_mse(error[:2], -error[:2], far, neg[:2], jnp.array([0.0, 1e-30]))
    np.testing.assert_array_equal(found, [0.0, 0.0])


WRONG_SHAPES = {
    "logsnr": (6, 1),
    "neg_dlogsnr_dt": (6, 1),
    "weight": (1,),
    "x_hat": (1, 4, 4, 3),
    "bias": (6,),
}


@pytest.mark.parametrize("loss", [weighted_mse, sigmoid_loss, power_loss])
def test_shapes_that_would_be_broadcast_are_refused(loss, unchecked):
    right = {
        "x": (6, 4, 4, 3),
        "x_hat": (6, 4, 4, 3),
        "error": (6, 4, 4, 3),
        "logsnr": (6,),
        "neg_dlogsnr_dt": (6,),
        "weight": (6,),
        "bias": (),
    }
    names = inspect.signature(loss).parameters
    arrays = {name: jnp.ones(shape) for name, shape in right.items() if name in names}
    levels = {"levels": 1} if "levels" in names else {}
    assert loss(**arrays, **levels).shape == (6,)
    for name in WRONG_SHAPES.keys() & names:
        wrong = arrays | {name: jnp.ones(WRONG_SHAPES[name])}
        with pytest.raises(ValueError, match=f"{name} has shape"):
            loss(**wrong, **levels)


def test_a_bias_that_moves_is_not_a_number(unchecked):
    error, ones = draw(0, 2, 4, 4, 3), jnp.ones(2)
    with pytest.raises(TypeError, match=r"PowerLoss\(bias, levels\)"):
        power_loss(error, ones, ones, wt.TimeShiftedBias(-8.0, -3.0, 10), 1)


MEAN, STD = 0.4, 0.5


def imperfect_eps(z, logsnr):
    """The exact eps of N(MEAN, STD²) data, then 20 % too large and 0.1 off."""
    alpha, sigma = par.alpha_sigma(logsnr)
    return 1.2 * sigma * (z - alpha * MEAN) / (STD**2 * alpha**2 + sigma**2) + 0.1


def expected_eps_error(lam):
    """E[(eps - imperfect_eps)²] in closed form: eps given z is Gaussian."""
    alpha2, sigma2 = 1 / (1 + np.e**-lam), 1 / (1 + np.e**lam)
    share = sigma2 / (STD**2 * alpha2 + sigma2)  # variance of E[eps | z]
    return (1 - share) + 0.2**2 * share + 0.1**2


# All have the end points 10 and -15.545 and differ in between.
END = -10.0 + 2.0 * math.log(32 / 512)
SHIFT = 2.0 * math.log(32 / 64)
PATHS = [
    CosineInterpolated(512),
    Cosine(END, 10.0),
    ShiftedCosine(64, 32, END - SHIFT, 10.0 - SHIFT),
    CosineInterpolated(512, 32, 64, END - 2 * math.log(32 / 512), 10.0 - 2 * math.log(64 / 512)),
]


DRAWS = 2**18


@compiled
def estimates(t, logsnr, neg, x, eps):
    """For each weighting the mean loss, its standard error, and the mean without -dlam/dt."""
    z = par.diffuse(x, eps, logsnr)
    x_hat = par.x_from_eps(z, imperfect_eps(z, logsnr[:, None]), logsnr)
    rows = []
    for weighting in WEIGHTINGS:
        weight = weighting(logsnr, 0)
        correct = weighted_mse(x, x_hat, logsnr, neg, weight)
        without = weighted_mse(x, x_hat, logsnr, jnp.full_like(neg, 25.0), weight)
        # The times are evenly spread, so only x and eps leave an error.
        noise = correct - 0.5 * neg * weight * expected_eps_error(logsnr)
        rows.append([jnp.mean(correct), jnp.std(noise) / DRAWS**0.5, jnp.mean(without)])
    return rows


@functools.cache
def estimates_of_every_schedule():
    t = antithetic_times(jax.random.key(0), DRAWS)
    x, eps = MEAN + STD * draw(1, DRAWS, 4), draw(2, DRAWS, 4)
    rows = [estimates(t, s.logsnr(t), -s.dlogsnr_dt(t), x, eps) for s in PATHS]
    return np.array(rows, np.float64)


@pytest.mark.parametrize("index", range(len(WEIGHTINGS)), ids=lambda i: str(WEIGHTINGS[i]))
def test_the_expected_loss_is_the_same_on_every_schedule(index):
    """E_t L = ½ ∫ w(lam) E[(eps - eps_hat)²] dlam for every schedule with these end points.

    Without -dlam/dt it depends on the schedule.
    """
    grid = np.linspace(END, 10.0, 801)
    weights = np.asarray(WEIGHTINGS[index](jnp.asarray(grid), 0), np.float64)
    expected = integrate.simpson(0.5 * weights * expected_eps_error(grid), x=grid)
    correct, errors, without = estimates_of_every_schedule()[:, index].T
    assert np.all(np.abs(correct - expected) < 4 * errors)
    assert max(errors) < 0.015 * expected
    assert np.ptp(without) > 0.08 * np.mean(without)


def test_the_schedules_share_their_ends():
    for schedule in PATHS:
        ends = schedule.logsnr_exact(np.array([0.0, 1.0]))
        np.testing.assert_allclose(ends, [10.0, END], atol=1e-9)
    middles = [float(schedule.logsnr(0.5)) for schedule in PATHS]
    assert np.ptp(middles) > 1.0


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_power_loss_with_equal_weights_is_the_plain_squared_error(levels):
    """At log-SNR 60 every weight is one: the mean of the squares, or their sum as printed."""
    error = draw(0, 2, 16, 24, 3)
    arguments = error, jnp.full(2, 60.0), jnp.array([1.0, 5.0]), 1.0, levels
    squares = np.square(np.float64(error)) * np.array([1.0, 5.0])[:, None, None, None]
    np.testing.assert_allclose(power(*arguments), squares.mean(axis=(1, 2, 3)), rtol=1e-5)
    found = power(*arguments, normalisation="sum")
    np.testing.assert_allclose(found, squares.sum(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("normalisation", ["mean", "sum"])
def test_power_loss_by_pywavelets(levels, normalisation):
    error, bias = draw(5, 3, 16, 24, 3), -1.5
    lam, slope = np.array([-9.0, -1.0, 4.0]), np.array([30.0, 6.0, 12.0])
    deepest, *details = pywt.wavedec2(np.float64(error), "haar", level=levels, axes=(1, 2))
    bands = [(2 * levels, deepest)]
    for depth, (horizontal, vertical, diagonal) in zip(range(levels, 0, -1), details, strict=True):
        low = 2 * (depth - 1)
        bands += [(low + 1, horizontal), (low + 1, vertical), (low, diagonal)]
    expected = slope * sum(
        expit(lam + np.log(2) * low - bias) * np.sum(band**2, axis=(1, 2, 3)) for low, band in bands
    )
    if normalisation == "mean":
        expected /= 16 * 24 * 3
    given = jnp.asarray(lam), jnp.asarray(slope), bias, levels, normalisation
    np.testing.assert_allclose(power(error, *given), expected, rtol=1e-5)


def test_the_scale_of_the_power_loss_does_not_depend_on_the_size():
    """An image tiled four times has the same mean; the printed sum is four times as large."""
    error, lam, neg = draw(6, 2, 8, 8, 3), jnp.array([-2.0, 1.0]), jnp.array([4.0, 6.0])
    tiled = jnp.tile(error, (1, 2, 2, 1))
    mean, total = (
        [power(one, lam, neg, -1.0, 2, kind) for one in (error, tiled)] for kind in ("mean", "sum")
    )
    np.testing.assert_allclose(mean[1], mean[0], rtol=1e-5)
    np.testing.assert_allclose(total[1], 4.0 * total[0], rtol=1e-5)


LOW_PASSES = {"LLLL": 4, "LLLH": 3, "LLHL": 3, "LLHH": 2, "LH": 1, "HL": 1, "HH": 0}


@pytest.mark.parametrize("name", LOW_PASSES)
@pytest.mark.parametrize("bias", [-3.0, 0.0])
def test_each_sub_band_has_its_weight(name, bias):
    bands = subbands(draw(1, 3, 8, 8, 2), 2)
    alone = {key: band if key == name else jnp.zeros_like(band) for key, band in bands.items()}
    lam, slope = np.array([-9.0, -1.0, 4.0]), np.array([30.0, 6.0, 12.0])
    arguments = from_subbands(alone), jnp.asarray(lam), jnp.asarray(slope), bias, 2
    weight = expit(lam + np.log(2) * LOW_PASSES[name] - bias) * slope
    squares = np.sum(np.square(np.asarray(bands[name], np.float64)), axis=(1, 2, 3))
    np.testing.assert_allclose(power(*arguments), weight * squares / (8 * 8 * 2), rtol=1e-4)
    np.testing.assert_allclose(power(*arguments, normalisation="sum"), weight * squares, rtol=1e-4)


def test_power_loss_without_levels_is_proportional_to_the_sigmoid_loss():
    error, lam, neg = draw(0, 4, 8, 8, 3), jnp.linspace(-9.0, 9.0, 4), jnp.full(4, 3.0)
    sigmoid = sigmoid_loss(error, jnp.zeros_like(error), lam, neg, -3.0)
    factor = 2.0 * math.exp(3.0)
    np.testing.assert_allclose(power(error, lam, neg, -3.0, 0), factor * sigmoid, rtol=1e-5)
    printed = power(error, lam, neg, -3.0, 0, "sum")
    np.testing.assert_allclose(printed, error[0].size * factor * sigmoid, rtol=1e-5)


def test_power_loss_transforms_video_per_frame():
    error, lam, neg = draw(0, 2, 5, 8, 8, 3), jnp.array([-2.0, 1.0]), jnp.array([4.0, 6.0])
    video = power(error, lam, neg, -1.0, 2)
    frames = [power(error[:, f], lam, neg, -1.0, 2) for f in range(5)]
    np.testing.assert_allclose(video, np.mean(frames, axis=0), rtol=1e-5)


def noised(x, logsnr, neg):
    eps = draw(9, *x.shape)
    return Noised(x, eps, par.diffuse(x, eps, logsnr), logsnr, neg)


@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("name", LOW_PASSES)
def test_the_weights_of_the_power_loss_are_those_it_applies(name, normalisation):
    """2 e^-b 4^levels · ½ (-λ') w_s ||eps_s - eps_hat_s||² / d, of an error in one sub-band."""
    levels, bias = 2, -1.5
    lam, neg = jnp.array([-9.0, -3.0, 0.0, 5.0]), jnp.array([30.0, 8.0, 6.0, 12.0])
    bands = subbands(draw(1, 4, 8, 8, 2), levels)
    alone = {key: band if key == name else jnp.zeros_like(band) for key, band in bands.items()}
    given = noised(draw(2, 4, 8, 8, 2), lam, neg)
    loss = PowerLoss(bias, levels, normalisation)
    found = loss(given, given.eps + from_subbands(alone), par.Prediction.EPS, 0)
    weights = loss.weights(lam, 0)
    assert list(weights) == list(bands)
    squares = np.sum(np.square(np.asarray(bands[name], np.float64)), axis=(1, 2, 3))
    factor = 2.0 * math.exp(-bias) * 4.0**levels
    factor /= 8 * 8 * 2 if normalisation == "mean" else 1
    np.testing.assert_allclose(found, factor * 0.5 * neg * weights[name] * squares, rtol=1e-3)


def test_the_target_of_v_is_exact_where_the_signal_nearly_vanishes():
    """At the end of the schedule for 512² a network without error has no loss.

    Its output is alpha eps - sigma x in float64, rounded once. A target solved from z would differ
    by 1e-4 of it: a loss of 1e-9 instead of 1e-16.
    """
    lam, neg = CosineInterpolated(512).logsnr(jnp.ones(2)), jnp.full(2, 2.0)
    given = noised(draw(3, 2, 16, 16, 3), lam, neg)
    wide = np.float64(lam)[:, None, None, None]
    v = np.sqrt(expit(wide)) * np.float64(given.eps) - np.sqrt(expit(-wide)) * np.float64(given.x)
    loss = weighted_mse(jnp.asarray(v, jnp.float32), given.x, lam, neg, wt.elbo(lam), "v")
    exact = jnp.asarray(v, jnp.float32)
    right = WeightedLoss(wt.ElboWeighting())(given, exact, par.Prediction.V, 0)
    assert np.all(np.asarray(right) < 1e-13 * np.asarray(loss))


def edm_weight(lam):
    return stats.norm.pdf(lam, 2.4, 2.4) * (np.exp(-lam) + 0.25)


def low_bit_weight(lam):
    """For images 4 pixels high: 8, 7, 6, 5 bits mixed as 1 : 4 : 4 : 6."""
    errors = {bits: lowbit.eps_error(bits, lam + 2 * math.log(4)) for bits in (8, 7, 6, 5)}
    return (errors[8] + 4 * errors[7] + 4 * errors[6] + 6 * errors[5]) / 15 / errors[8]


CLOSED_FORMS = [
    lambda lam: expit(-3.0 - lam),
    edm_weight,
    lambda lam: edm_weight(np.maximum(lam, -3.3077775)),
    np.ones_like,
    low_bit_weight,
]


@pytest.mark.parametrize(
    ("weighting", "expected"),
    list(zip(WEIGHTINGS, CLOSED_FORMS, strict=True)),
    ids=[str(one) for one in WEIGHTINGS],
)
def test_weights_are_those_of_the_papers_and_those_that_the_loss_applies(weighting, expected):
    """The loss of a unit error in eps is 1/2 (-lam') w."""
    lam, neg = jnp.linspace(-9.0, 9.0, 19), jnp.full(19, 7.0)
    loss = WeightedLoss(weighting)
    (weight,) = loss.weights(lam, 0).values()
    np.testing.assert_allclose(weight, expected(np.float64(lam)), rtol=1e-3, atol=1e-6)
    given = noised(draw(2, 19, 4, 4, 2), lam, neg)
    found = loss(given, given.eps + 1.0, par.Prediction.EPS, 0)
    np.testing.assert_allclose(found, 0.5 * 7.0 * np.float64(weight), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("prediction", ["v", "eps", "x"])
def test_gradients_are_finite_at_both_ends(prediction, dtype):
    """Of every loss, at t = 0 and t = 1, through the conversion from every prediction."""
    schedule = CosineInterpolated(512)
    t = jnp.array([0.0, 1e-4, 0.5, 1.0])
    logsnr, neg = schedule.logsnr(t), -schedule.dlogsnr_dt(t)
    x, eps, raw = (draw(i, 4, 4, 4, 3) for i in range(3))
    z = par.diffuse(x, eps, logsnr)

    def losses(output):
        x_hat = par.x_from(prediction, z.astype(dtype), output, logsnr)
        return [
            sigmoid_loss(x, x_hat, logsnr, neg, -3.0),
            power_loss(x_hat - x, logsnr, neg, -3.0, 2),
            *(weighted_mse(x, x_hat, logsnr, neg, w(logsnr, 0)) for w in WEIGHTINGS),
        ]

    @compiled
    def values_and_gradients(output):
        values, pull = jax.vjp(losses, output)
        ones, zeros = jnp.ones(4), jnp.zeros(4)
        one_hot = [[ones if i == j else zeros for j in range(7)] for i in range(7)]
        return values, [pull(row)[0] for row in one_hot]

    for value, gradient in zip(*values_and_gradients(raw.astype(dtype)), strict=True):
        assert (value.dtype, gradient.dtype) == (jnp.float32, dtype)
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(gradient.astype(jnp.float32)))
        assert np.all(np.any(gradient != 0, axis=(1, 2, 3)))
