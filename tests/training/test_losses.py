"""Every loss of params.yaml through the whole objective, against NumPy in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from scipy import optimize, stats
from scipy.special import expit

from sid2core import config
from sid2core.config import build
from sid2core.diffusion import lowbit
from sid2core.diffusion.parametrisation import Prediction
from sid2core.training.base import Objective
from tests import tiny
from tests.training.test_base import PARAMS, SCHEDULE, Affine, asked, falling, time_of

BIAS = -1.5
SIZE = 4
IMAGES, VIDEO = (6, SIZE, 8, 2), (6, 3, SIZE, 8, 2)
STILL = {"bias_start": None, "bias_steps": None}
LOSSES = {
    "sigmoid": {"bias": BIAS} | STILL,
    "edm": {},
    "edm_monotonic": {},
    "elbo": {},
    "low_bit": {},
    "power": {"bias": BIAS, "levels": 2, "normalisation": "mean"} | STILL,
}
MOVING = {"bias": BIAS, "bias_start": -8.0, "bias_steps": 100}


def objective(name, prediction=Prediction.V, shape=IMAGES, **changes):
    settings = config.Loss.model_validate({"name": name, name: LOSSES[name] | changes})
    return Objective(Affine(), SCHEDULE, build.training_loss(settings, shape[1:]), prediction, 0.0)


def examples(shape=IMAGES):
    draws = np.random.default_rng(3)
    return jnp.asarray(draws.uniform(-1, 1, shape), jnp.float32)


def edm(lam):
    return stats.norm.pdf(lam, 2.4, 2.4) * (np.exp(-lam) + 0.25)


def mixed(lam):
    errors = {bits: lowbit.eps_error(bits, lam) for bits in (8, 7, 6, 5)}
    return (errors[8] + 4 * errors[7] + 4 * errors[6] + 6 * errors[5]) / 15 / errors[8]


EDM_SHIFT = 2 * math.log(64 / SIZE)
PEAK = optimize.minimize_scalar(lambda lam: -edm(lam), (-5.0, -3.0)).x
WEIGHTS = {
    "sigmoid": lambda lam: expit(BIAS - lam),
    "edm": lambda lam: edm(lam - EDM_SHIFT),
    "edm_monotonic": lambda lam: edm(np.maximum(lam - EDM_SHIFT, PEAK)),
    "elbo": np.ones_like,
    "low_bit": lambda lam: mixed(lam + 2 * math.log(SIZE)),
}
"""On the eps error, as the papers have them."""


def column(values, like):
    return values.reshape(-1, *[1] * (like.ndim - 1))


def power(error, lam, levels):
    """Supplement B.2 by PyWavelets: sum over sub-bands of sigmoid(lam + log(2) l - b) ||s||^2."""
    deepest, *details = pywt.wavedec2(error, "haar", level=levels, axes=(-3, -2))
    bands = [(2 * levels, deepest)]
    for level, (horizontal, vertical, diagonal) in zip(range(levels, 0, -1), details, strict=True):
        low = 2 * (level - 1)
        bands += [(low + 1, horizontal), (low + 1, vertical), (low, diagonal)]
    squares = [(count, np.sum(band.reshape(len(band), -1) ** 2, axis=1)) for count, band in bands]
    return sum(expit(lam + math.log(2) * count - BIAS) * square for count, square in squares)


def by_hand(name, prediction, x, z, logsnr, levels=2):
    x, z, lam = np.float64(x), np.float64(z), np.float64(logsnr)
    alpha, sigma = column(np.sqrt(expit(lam)), x), column(np.sqrt(expit(-lam)), x)
    output = 0.7 * z + 0.1
    x_hat = {
        Prediction.V: alpha * z - sigma * output,
        Prediction.EPS: (z - sigma * output) / alpha,
        Prediction.X: output,
    }[prediction]
    slope = falling(time_of(lam))
    if name == "power":
        return np.mean(slope * power(x_hat - x, lam, levels)) / x[0].size
    error = np.mean((x_hat - x).reshape(len(x), -1) ** 2, axis=1)
    return np.mean(0.5 * slope * WEIGHTS[name](lam) * np.exp(lam) * error)


@pytest.mark.parametrize("shape", [IMAGES, VIDEO], ids=["images", "video"])
@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_what_its_paper_says(name, prediction, shape):
    x = examples(shape)
    found, (z, logsnr, _, _) = asked(objective(name, prediction, shape), x, jnp.zeros(6, int))
    # low_bit interpolates a table, right to 2e-4.
    assert found == pytest.approx(by_hand(name, prediction, x, z, logsnr), rel=5e-4)


def test_the_printed_sum_is_the_mean_times_the_number_of_elements():
    x, labels = examples(), jnp.zeros(6, int)
    mean, total = (
        asked(objective("power", normalisation=kind), x, labels)[0] for kind in ("mean", "sum")
    )
    assert total == pytest.approx(SIZE * 8 * 2 * mean, rel=1e-5)


@pytest.mark.parametrize("levels", [0, 1])
def test_the_power_loss_is_split_as_often_as_asked(levels):
    x = examples()
    found, (z, logsnr, _, _) = asked(objective("power", levels=levels), x, jnp.zeros(6, int))
    assert found == pytest.approx(by_hand("power", Prediction.V, x, z, logsnr, levels), rel=1e-4)


def test_no_two_losses_are_the_same():
    x, labels = examples(), jnp.zeros(6, int)
    values = [asked(objective(name), x, labels)[0] for name in LOSSES]
    assert len({round(value, 3) for value in values}) == len(LOSSES)


@pytest.mark.parametrize("name", ["sigmoid", "power"])
def test_a_bias_moves_with_the_step(name):
    x, labels = examples(), jnp.zeros(6, int)
    moving = objective(name, **MOVING)
    for step, bias in ((0, -8.0), (25, -6.375), (100, BIAS), (10_000, BIAS)):
        expected, _ = asked(objective(name, bias=bias), x, labels)
        assert asked(moving, x, labels, step=step)[0] == pytest.approx(expected, rel=1e-5)
    still = objective(name)
    assert asked(still, x, labels, step=0)[0] == asked(still, x, labels, step=25)[0]
    assert asked(moving, x, labels, step=0)[0] != asked(moving, x, labels, step=25)[0]


@pytest.mark.parametrize(
    ("name", "prediction"),
    # A loss sees the prediction through the error alone: those that differ most suffice for all.
    [(name, Prediction.V) for name in LOSSES]
    + [(name, other) for name in ("sigmoid", "power") for other in (Prediction.EPS, Prediction.X)],
)
def test_gradients_are_finite_and_point_downhill(name, prediction):
    """On so many examples that times come close to both ends."""
    x, labels = examples((256, SIZE, 8, 2)), jnp.zeros(256, int)
    made, key, step = objective(name, prediction), jax.random.key(1), jnp.int32(0)
    (value, _), gradient = jax.value_and_grad(made, has_aux=True)(
        PARAMS, x, tiny.labels(labels), key, step
    )
    logsnr = made.network.asked[-1][1]
    assert float(logsnr.min()) < -10.5
    assert float(logsnr.max()) > 8.5
    assert np.isfinite(value)
    assert all(np.isfinite(part) and part != 0 for part in gradient.values())
    norm = math.sqrt(sum(float(part) ** 2 for part in gradient.values()))
    # The loss is quadratic in the parameters: a short step down the slope lowers it.
    shorter = {key: PARAMS[key] - 1e-3 * part / norm for key, part in gradient.items()}
    assert float(made(shorter, x, tiny.labels(labels), key, step)[0]) < float(value)
