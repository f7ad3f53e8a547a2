"""Conversions between x, eps and v against float64, over log-SNR -20 … 20."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from sid2core.diffusion import parametrisation as par
from sid2core.diffusion.parametrisation import Prediction, per_example
from sid2core.diffusion.schedule import CosineInterpolated

LOGSNR = np.linspace(-20.0, 20.0, 401).astype(np.float32)


def exact_alpha_sigma(logsnr):
    lam = np.asarray(logsnr, np.float64)
    return np.sqrt(expit(lam)), np.sqrt(expit(-lam))


def pair(seed, shape=(401, 3, 2)):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))


def exact_columns(logsnr, ndim):
    return (c.reshape(-1, *(1,) * (ndim - 1)) for c in exact_alpha_sigma(logsnr))


def test_alpha_and_sigma():
    alpha, sigma = par.alpha_sigma(jnp.asarray(LOGSNR))
    expected = exact_alpha_sigma(LOGSNR)
    np.testing.assert_allclose(alpha, expected[0], rtol=1e-6)
    np.testing.assert_allclose(sigma, expected[1], rtol=1e-6)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-6)


CONVERSIONS = [
    (par.diffuse, lambda a, s, x, eps: a * x + s * eps),
    (par.velocity, lambda a, s, x, eps: a * eps - s * x),
    (par.x_from_v, lambda a, s, z, v: a * z - s * v),
    (par.eps_from_v, lambda a, s, z, v: s * z + a * v),
    (par.x_from_eps, lambda a, s, z, eps: (z - s * eps) / a),
    (par.v_from_eps, lambda a, s, z, eps: (eps - s * z) / a),
    (par.eps_from_x, lambda a, s, z, x: (z - a * x) / s),
    (par.v_from_x, lambda a, s, z, x: (a * z - x) / s),
]
conversions = pytest.mark.parametrize(
    ("convert", "exact"), CONVERSIONS, ids=[case[0].__name__ for case in CONVERSIONS]
)
FINE = np.linspace(-20.0, 20.0, 4001).astype(np.float32)


def assert_exact(convert, exact, first, second):
    """Each row within 1e-5, in norm, of the float64 conversion of the same float32 inputs."""
    alpha, sigma = exact_columns(FINE, 2)
    expected = exact(alpha, sigma, *(np.asarray(a, np.float64) for a in (first, second)))
    for run in (convert, jax.jit(convert)):
        found = np.asarray(run(first, second, jnp.asarray(FINE)), np.float64)
        error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert error.max() <= 1e-5, f"{error.max():.1e} at log-SNR {FINE[error.argmax()]}"


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31))
@conversions
def test_as_exact_as_promised(convert, exact, seed):
    assert_exact(convert, exact, *pair(seed, (4001, 12)))


@conversions
def test_as_exact_where_z_belongs_to_its_x_and_eps(convert, exact):
    """As in training: the two arguments nearly cancel at one end or the other."""
    alpha, sigma = exact_columns(FINE, 2)
    x, eps = (np.asarray(a, np.float64) for a in pair(13, (4001, 12)))
    known = {"x": x, "eps": eps, "z": alpha * x + sigma * eps, "v": alpha * eps - sigma * x}
    names = list(inspect.signature(convert).parameters)[:2]
    assert_exact(convert, exact, *(jnp.asarray(known[name], jnp.float32) for name in names))


def test_the_three_predictions_agree():
    """One (x, eps) pair, z and v from the definitions: every conversion finds the third."""
    logsnr = jnp.linspace(-4.0, 4.0, 401)
    x, eps = pair(7)
    alpha, sigma = exact_columns(logsnr, 3)
    z = jnp.asarray(alpha * np.asarray(x, np.float64) + sigma * np.asarray(eps, np.float64))
    v = jnp.asarray(alpha * np.asarray(eps, np.float64) - sigma * np.asarray(x, np.float64))
    np.testing.assert_allclose(par.diffuse(x, eps, logsnr), z, atol=2e-6)
    for convert, given_, expected in [
        (par.x_from_v, v, x),
        (par.eps_from_v, v, eps),
        (par.x_from_eps, eps, x),
        (par.v_from_eps, eps, v),
        (par.eps_from_x, x, eps),
        (par.v_from_x, x, v),
    ]:
        np.testing.assert_allclose(convert(z, given_, logsnr), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("recover", "convert", "scale"),
    [
        (par.x_from_v, par.v_from_x, lambda a, s: a + s),
        (par.x_from_eps, par.eps_from_x, lambda a, s: 1 / a),
        (par.eps_from_x, par.x_from_eps, lambda a, s: 1 / s),
        (par.eps_from_v, par.v_from_eps, lambda a, s: 1 / s + 1 / a),
    ],
    ids=["x-v-x", "x-eps-x", "eps-x-eps", "eps-v-eps"],
)
def test_round_trips(recover, convert, scale):
    """A conversion and its inverse, up to the amplification that each pair has in exact terms."""
    z, start = pair(11)
    logsnr = jnp.asarray(LOGSNR)
    back = np.asarray(recover(z, convert(z, start, logsnr), logsnr))
    alpha, sigma = exact_columns(LOGSNR, 3)
    size = np.abs(np.asarray(z)) + np.abs(np.asarray(start))
    assert np.all(np.abs(back - np.asarray(start)) <= 1e-5 * scale(alpha, sigma) * size)


def test_the_velocity_over_the_schedule_of_512():
    """Of (x, eps), against alpha eps - sigma x in float64, where v solved from z is far less exact.

    At t = 1 alpha is 4e-4, and the rounding of z divided by it is 1e-4.
    """
    schedule = CosineInterpolated(512)
    logsnr = schedule.logsnr(jnp.linspace(0.0, 1.0, 401))
    x, eps = (jnp.asarray(one) for one in pair(17, (401, 32, 32)))
    alpha, sigma = exact_columns(logsnr, 3)
    expected = alpha * np.float64(eps) - sigma * np.float64(x)

    def error(v):
        difference = np.linalg.norm((np.float64(v) - expected).reshape(401, -1), axis=1)
        return difference / np.linalg.norm(expected.reshape(401, -1), axis=1)

    assert error(par.velocity(x, eps, logsnr)).max() < 2e-7
    assert error(par.velocity(x, eps, logsnr))[-1] < 5e-8
    solved = par.v_from_eps(par.diffuse(x, eps, logsnr), eps, logsnr)
    assert 5e-5 < error(solved)[-1] < 5e-4


@pytest.mark.parametrize("prediction", [*Prediction, "v", "eps", "x"])
def test_dispatch(prediction):
    z, output = pair(3)
    logsnr = jnp.linspace(-4.0, 4.0, 401)
    expected = {
        "v": par.x_from_v(z, output, logsnr),
        "eps": par.x_from_eps(z, output, logsnr),
        "x": output,
    }[str(prediction)]
    np.testing.assert_array_equal(par.x_from(prediction, z, output, logsnr), expected)


def test_refuses_an_unknown_prediction():
    z, output = pair(3)
    with pytest.raises(ValueError, match="prediction is 'score', expected one of v, eps, x"):
        par.x_from("score", z, output, jnp.asarray(LOGSNR))


def test_numbers_are_taken_as_arrays():
    for found, expected in zip(par.alpha_sigma(0.0), exact_alpha_sigma(0.0), strict=True):
        assert (found.shape, found.dtype) == ((), jnp.float32)
        assert float(found) == pytest.approx(expected)


def test_half_precision_is_widened():
    z, v = (a.astype(jnp.bfloat16) for a in pair(5))
    found = par.x_from("v", z, v, jnp.asarray(LOGSNR))
    assert found.dtype == jnp.float32
    wide = par.x_from_v(z.astype(jnp.float32), v.astype(jnp.float32), jnp.asarray(LOGSNR))
    np.testing.assert_array_equal(found, wide)


def test_per_example_needs_one_value_per_example():
    assert per_example(jnp.arange(3.0), jnp.zeros((3, 2, 2, 1))).shape == (3, 1, 1, 1)
    for values in (jnp.zeros(1), jnp.zeros(()), jnp.zeros((3, 2))):
        with pytest.raises(ValueError, match="one value per example"):
            per_example(values, jnp.zeros((3, 2)))
