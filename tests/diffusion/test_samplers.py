"""Samplers on data whose exact denoiser is known, against recursions written from the formulas."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import stats
from scipy.special import expit

from sid2core.diffusion.clipping import NoClip
from sid2core.diffusion.samplers import (
    ADDIM,
    DDIM,
    DDPM,
    DPMSolver,
    Heun,
    Sampler,
    SamplingPlan,
    Step,
    sample,
)
from sid2core.diffusion.schedule import CosineInterpolated
from tests import tiny
from tests.diffusion.exact import MEAN, STD, columns, gaussian_denoiser, mixture_denoiser

SCHEDULE, UNCLIPPED = CosineInterpolated(128), NoClip()
IMAGES, SIDE = 4096, 32


def run(keys, denoise, shape, sampler, steps, clip_x=UNCLIPPED, init=None, t_start=1.0):
    plan = SamplingPlan(sampler, steps, SCHEDULE, t_start=t_start)
    return sample(keys, denoise, shape, plan=plan, clip_x=clip_x, init=init)


STATIC = ("denoise", "shape", "sampler", "steps", "clip_x", "t_start")
draw = jax.jit(run, static_argnames=STATIC)
# Programs of the tests spend their time in the compiler, and are not optimised; this one runs long.
draw_many = jax.jit(run, static_argnames=STATIC, compiler_options=tiny.OPTIMISED)


def advance(sampler, z, x_hat, noise, logsnr_t, logsnr_s):
    """z_s of a sampler without state."""
    return sampler.step(z, x_hat, sampler.init(z), Step(logsnr_t, logsnr_s, noise))[0]


def split(seed, count):
    return jax.random.split(jax.random.key(seed), count)


def grid(steps):
    """alpha, sigma and lam at t = 1, 1 - 1/steps, …, 0, in float64, for SCHEDULE."""
    t = np.linspace(1.0, 0.0, steps + 1)
    b = np.arctan(np.exp(-5.0))
    a = np.arctan(np.exp(5.0)) - b
    lam = -2 * np.log(np.tan(a * t + b)) + t * 2 * np.log(32 / 128)
    return np.sqrt(expit(lam)), np.sqrt(expit(-lam)), lam


def posterior_line(alpha, sigma):
    """x_hat = slope z + offset."""
    slope = STD**2 * alpha / (STD**2 * alpha**2 + sigma**2)
    return slope, MEAN - slope * alpha * MEAN


def recursion(steps, advance):
    """Mean and variance of x_hat at the last step, from z ~ N(0, 1).

    ``advance`` gives z_s = gain_z z + gain_x x_hat + spread noise as (gain_z, gain_x, spread).
    """
    alpha, sigma, lam = grid(steps)
    mean, variance = 0.0, 1.0
    for t in range(steps):
        slope, offset = posterior_line(alpha[t], sigma[t])
        if t == steps - 1:
            return slope * mean + offset, slope**2 * variance
        here, there = (alpha[t], sigma[t], lam[t]), (alpha[t + 1], sigma[t + 1], lam[t + 1])
        gain_z, gain_x, spread = advance(here, there, mean, variance)
        mean, variance = (
            (gain_z + gain_x * slope) * mean + gain_x * offset,
            (gain_z + gain_x * slope) ** 2 * variance + spread**2,
        )
    raise AssertionError("no step")


def ddpm_coefficients(here, there, fraction):
    (alpha_t, sigma_t, lam_t), (alpha_s, sigma_s, lam_s) = here, there
    r = math.exp(lam_t - lam_s)
    low, high = (1 - r) * sigma_s**2, (1 - r) * sigma_t**2
    spread = math.sqrt(high**fraction * low ** (1 - fraction))
    return r * alpha_s / alpha_t, (1 - r) * alpha_s, spread


def ddim_coefficients(here, there):
    (alpha_t, sigma_t, _), (alpha_s, sigma_s, _) = here, there
    return sigma_s / sigma_t, alpha_s - sigma_s / sigma_t * alpha_t, 0.0


def addim_coefficients(here, there, mean, variance, eta=0.1):
    """In many dimensions ||eps_hat||² / d is its expectation."""
    (alpha_t, sigma_t, lam_t), (alpha_s, sigma_s, _) = here, there
    slope, offset = posterior_line(alpha_t, sigma_t)
    per_z, constant = (1 - alpha_t * slope) / sigma_t, -alpha_t * offset / sigma_t
    square = (per_z * mean + constant) ** 2 + per_z**2 * variance
    x_var = eta / (2 + math.exp(lam_t))
    z_var = (alpha_s - alpha_t * sigma_s / sigma_t) ** 2 * x_var
    width = math.sqrt(sigma_s**2 + z_var / square)
    return width / sigma_t, alpha_s - width * alpha_t / sigma_t, 0.0


def assert_moments(images, mean, variance):
    """Within five standard errors of a sample of this size."""
    count = images.size
    values = np.asarray(images, np.float64)
    assert abs(values.mean() - mean) < 5 * math.sqrt(variance / count) + 1e-5
    assert abs(values.var() / variance - 1) < 5 * math.sqrt(2 / count) + 1e-4


@pytest.mark.parametrize(
    ("fraction", "steps"),
    [(0.0, 16), (0.3, 16), (1.0, 16), (0.0, 128), (1.0, 128), (0.3, 512)]
    + [
        pytest.param(*more, marks=pytest.mark.slow) for more in [(0.3, 128), (0.0, 512), (1.0, 512)]
    ],
)
def test_ddpm_has_the_moments_of_its_recursion(fraction, steps):
    images = draw_many(split(steps, IMAGES), gaussian_denoiser, (SIDE,), DDPM(fraction), steps)
    expected = recursion(steps, lambda t, s, *_: ddpm_coefficients(t, s, fraction))
    assert_moments(images, *expected)


@pytest.mark.parametrize("steps", [16, 128, 512])
def test_ddim_has_the_moments_of_its_recursion(steps):
    images = draw(split(steps, IMAGES), gaussian_denoiser, (SIDE,), DDIM(), steps)
    assert_moments(images, *recursion(steps, lambda t, s, *_: ddim_coefficients(t, s)))


@pytest.mark.parametrize("steps", [16, 128])
def test_addim_has_the_moments_of_its_recursion(steps):
    """Images of 8192 elements, where the norm is its expectation to two per cent or better."""
    images = draw(split(steps, 16), gaussian_denoiser, (64, 128), ADDIM(), steps)
    assert_moments(images, *recursion(steps, addim_coefficients))
    without = recursion(steps, lambda t, s, *_: ddim_coefficients(t, s))
    assert abs(recursion(steps, addim_coefficients)[1] / without[1] - 1) > 0.005


def test_the_recursions_differ_between_samplers():
    """Otherwise the tests above would pass for the wrong sampler."""
    ends = [
        recursion(16, lambda t, s, *_, f=f: ddpm_coefficients(t, s, f))[1] for f in (0.0, 0.3, 1.0)
    ]
    ends.append(recursion(16, lambda t, s, *_: ddim_coefficients(t, s))[1])
    ends.sort()
    assert min(b / a for a, b in itertools.pairwise(ends)) > 1 + 5 * math.sqrt(2 / (IMAGES * SIDE))


def test_ddim_transports_gaussian_quantiles():
    """In the limit x = m + s (z - alpha_1 m) / sqrt(alpha_1² s² + sigma_1²).

    The error halves with every doubling of the steps.
    """
    z = jnp.linspace(-3.0, 3.0, 61)[:, None]
    alpha, sigma, _ = grid(1)
    scale = math.sqrt(alpha[0] ** 2 * STD**2 + sigma[0] ** 2)
    expected = MEAN + STD * (np.asarray(z, np.float64) - alpha[0] * MEAN) / scale
    errors = []
    for steps in (512, 1024, 2048):
        x = draw(split(0, 61), gaussian_denoiser, (1,), DDIM(), steps, init=z)
        errors.append(float(np.max(np.abs(np.asarray(x) - expected))))
    assert errors[-1] < 2e-3
    for coarse, fine in itertools.pairwise(errors):
        assert fine / coarse == pytest.approx(0.5, abs=0.1)


def test_ddim_transports_mixture_quantiles():
    """A flow in one dimension keeps the order, hence the quantiles."""
    z = jnp.linspace(-2.5, 2.5, 101)[:, None]
    x = np.asarray(draw(split(0, 101), mixture_denoiser, (1,), DDIM(), 2048, init=z), np.float64)
    reached = 0.3 * stats.norm.cdf(x, -0.6, 0.1) + 0.7 * stats.norm.cdf(x, 0.5, 0.1)
    np.testing.assert_allclose(reached, stats.norm.cdf(np.asarray(z)), atol=0.01)


@pytest.mark.parametrize(
    "sampler", [DDPM(), DDPM(0.0), DDIM(), ADDIM(), DPMSolver(), Heun()], ids=str
)
def test_mixture_masses_and_modes(sampler):
    images = np.asarray(draw(split(1, IMAGES), mixture_denoiser, (8,), sampler, 256), np.float64)
    low, high = images[images < -0.05], images[images >= -0.05]
    share = low.size / images.size
    assert share == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / images.size) + 0.01)
    assert low.mean() == pytest.approx(-0.6, abs=0.015)
    assert high.mean() == pytest.approx(0.5, abs=0.015)
    np.testing.assert_allclose([low.std(), high.std()], 0.1, rtol=0.1)


def addim_step(z, x_hat, lam_t, lam_s, eta, norm_of="example", alpha_of="s"):
    """The update in float64, with the two mistakes it is easy to make."""
    alpha_t, sigma_t = np.sqrt(expit(lam_t)), np.sqrt(expit(-lam_t))
    alpha_s, sigma_s = np.sqrt(expit(lam_s)), np.sqrt(expit(-lam_s))
    eps = (z - alpha_t * x_hat) / sigma_t
    axes = (1, 2) if norm_of == "example" else (0, 1, 2)
    square = np.mean(eps**2, axis=axes, keepdims=True)
    alpha = alpha_s if alpha_of == "s" else alpha_t
    z_var = (alpha - alpha_t * sigma_s / sigma_t) ** 2 * eta / (2 + np.exp(lam_t))
    return alpha_s * x_hat + np.sqrt(sigma_s**2 + z_var / square) * eps


def test_addim_norm_is_each_examples_own_and_alpha_is_that_of_s():
    rng = np.random.default_rng(0)
    scale = np.array([0.5, 1.0, 3.0])[:, None, None]
    z, x_hat = scale * rng.normal(size=(3, 4, 5)), 0.3 * rng.normal(size=(3, 4, 5))
    lam_t, lam_s, eta = -0.5, 1.0, 0.4
    found = advance(
        ADDIM(eta),
        jnp.asarray(z),
        jnp.asarray(x_hat),
        jnp.zeros(z.shape),
        jnp.full(3, lam_t),
        jnp.full(3, lam_s),
    )
    right = addim_step(z, x_hat, lam_t, lam_s, eta)
    np.testing.assert_allclose(found, right, atol=2e-6)
    for mistake in ({"norm_of": "batch"}, {"alpha_of": "t"}):
        wrong = addim_step(z, x_hat, lam_t, lam_s, eta, **mistake)
        assert np.max(np.abs(wrong - right)) > 1e-2


def test_addim_without_eta_is_ddim_and_without_noise_is_finite():
    z, x_hat = (jnp.asarray(a) for a in np.random.default_rng(0).normal(size=(2, 3, 4, 4)))
    lam_t, lam_s = jnp.array([-3.0, 0.0, 2.0]), jnp.array([-1.0, 0.5, 9.0])
    ddim = advance(DDIM(), z, x_hat, z, lam_t, lam_s)
    np.testing.assert_allclose(advance(ADDIM(0.0), z, x_hat, z, lam_t, lam_s), ddim, atol=1e-5)
    zero = jnp.zeros_like(z)
    np.testing.assert_array_equal(advance(ADDIM(), zero, zero, z, lam_t, lam_s), zero)


def test_ddpm_step_is_the_posterior_for_each_examples_own_levels():
    """q(z_s | z_t, x) by Bayes' rule from q(z_t | z_s) and q(z_s | x), in float64."""
    lam_t, lam_s = np.array([-8.0, -1.0, 3.0]), np.array([-7.5, 2.0, 12.0])
    alpha_t, alpha_s = np.sqrt(expit(lam_t)), np.sqrt(expit(lam_s))
    var_t, var_s = expit(-lam_t), expit(-lam_s)
    ratio = alpha_t / alpha_s
    var_ts = var_t - ratio**2 * var_s
    precision = ratio**2 / var_ts + 1 / var_s
    z, x = 0.7, -0.4
    mean = (ratio * z / var_ts + alpha_s * x / var_s) / precision
    args = DDPM(0.0), jnp.full((3, 1), z), jnp.full((3, 1), x)
    levels = jnp.asarray(lam_t), jnp.asarray(lam_s)
    found = advance(*args, jnp.zeros((3, 1)), *levels)[:, 0]
    np.testing.assert_allclose(found, mean, rtol=1e-5)
    spread = (advance(*args, jnp.ones((3, 1)), *levels)[:, 0] - found) ** 2
    np.testing.assert_allclose(spread, 1 / precision, rtol=1e-4)


def mixing_denoiser(z, logsnr):
    """Not separable over pixels, so that a mistaken axis shows."""
    level = columns(logsnr, z)
    return jnp.tanh(0.5 * jnp.roll(z, 1, axis=1) + 0.3 * z + 0.01 * level)


@pytest.mark.parametrize("sampler", [DDPM(), ADDIM(), DPMSolver(), Heun()], ids=str)
def test_an_image_depends_on_its_key_alone(sampler):
    keys = split(5, 8)
    together = draw(keys, mixing_denoiser, (6, 6, 3), sampler, 8)
    order = jnp.array([3, 0, 7, 5])
    np.testing.assert_allclose(
        draw(keys[order], mixing_denoiser, (6, 6, 3), sampler, 8), together[order], atol=1e-6
    )
    alone = draw(keys[6:7], mixing_denoiser, (6, 6, 3), sampler, 8)
    np.testing.assert_allclose(alone[0], together[6], atol=1e-6)
    assert np.min(np.abs(np.diff(np.asarray(together).reshape(8, -1), axis=0)).max(axis=1)) > 0.1


def test_sharding_over_two_devices_changes_nothing():
    two = jax.devices()[:2]
    assert len(two) == 2
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=two)
    keys = split(5, 8)
    spread = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data")))
    one = draw(keys, mixing_denoiser, (6, 6, 3), DDPM(), 8)
    both = draw(spread, mixing_denoiser, (6, 6, 3), DDPM(), 8)
    assert len(both.sharding.device_set) == 2
    np.testing.assert_allclose(np.asarray(both), np.asarray(one), atol=1e-6)


def test_the_start_does_not_depend_on_the_number_of_steps():
    """Few-step and many-step images of one key start from one noise."""
    starts = []
    for steps in (2, 5):
        seen = []

        def probe(z, logsnr, seen=seen):
            jax.debug.callback(lambda z, lam: seen.append((float(lam[0]), np.array(z))), z, logsnr)
            return z

        jax.block_until_ready(draw(split(0, 2), probe, (3,), DDPM(), steps))
        jax.effects_barrier()
        assert len(seen) == steps
        starts.append(min(seen, key=lambda call: call[0])[1])
    np.testing.assert_array_equal(starts[0], starts[1])


def test_the_last_step_returns_the_prediction_itself():
    def constant(z, logsnr):
        return jnp.full_like(z, 0.25)

    for sampler in (DDPM(1.0), DPMSolver(), Heun()):
        images = draw(split(0, 4), constant, (2, 2, 1), sampler, 7)
        np.testing.assert_array_equal(images, np.full((4, 2, 2, 1), 0.25, np.float32))


def test_the_network_sees_the_grid_and_each_image_its_level():
    levels = []

    def probe(z, logsnr):
        jax.debug.callback(lambda lam: levels.append(np.array(lam)), logsnr)
        return z

    jax.block_until_ready(draw(split(0, 3), probe, (2,), DDIM(), 4))
    jax.effects_barrier()
    expected = SCHEDULE.logsnr_exact(np.array([1.0, 0.75, 0.5, 0.25]))
    found = np.stack(sorted(levels, key=lambda lam: lam[0]))
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 3, axis=1), rtol=1e-6)


@pytest.mark.parametrize("sampler", [DDPM(), DDIM(), ADDIM(), DPMSolver(), Heun()], ids=str)
def test_every_sampler_follows_the_protocol(sampler):
    assert isinstance(sampler, Sampler)
    z = jnp.zeros((3, 2))
    state, step = sampler.init(z), Step(jnp.zeros(3), jnp.ones(3), z, lambda z, logsnr: z)
    z_s, after = sampler.step(z, z, state, step)
    assert z_s.shape == z.shape
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_starting_from_a_noised_image():
    """From t = 1/4 with z sampled from q(z | x), DDPM samples the posterior of x given z.

    Its images have the moments of the data and are as correlated with x as two samples of the
    posterior are.
    """
    alpha, sigma = (float(c[3]) for c in grid(4)[:2])
    x = MEAN + STD * np.random.default_rng(1).normal(size=(IMAGES, SIDE))
    z = alpha * x + sigma * np.random.default_rng(2).normal(size=x.shape)
    keys = split(3, IMAGES)
    images = draw_many(
        keys, gaussian_denoiser, (SIDE,), DDPM(0.0), 256, init=jnp.asarray(z), t_start=0.25
    )
    assert float(jnp.mean(images)) == pytest.approx(MEAN, abs=0.01)
    assert float(jnp.std(images)) == pytest.approx(STD, rel=0.02)
    correlation = np.corrcoef(np.asarray(images).ravel(), np.asarray(x).ravel())[0, 1]
    kept = STD**2 * alpha**2 / (STD**2 * alpha**2 + sigma**2)
    assert correlation == pytest.approx(kept, abs=0.02)
    assert kept > 0.3


def test_half_precision_networks_are_sampled_in_float32():
    def half(z, logsnr):
        return gaussian_denoiser(z, logsnr).astype(jnp.bfloat16)

    images = draw(split(0, 256), half, (SIDE,), DDPM(0.0), 32)
    assert images.dtype == jnp.float32
    assert float(jnp.mean(images)) == pytest.approx(MEAN, abs=0.03)


def test_refusals(unchecked):
    plan = SamplingPlan(DDIM(), 2, SCHEDULE)
    images = functools.partial(sample, denoise=mixing_denoiser, shape=(2,), plan=plan)
    with pytest.raises(ValueError, match="vector of typed keys"):
        images(jnp.zeros((2, 2), jnp.uint32))
    with pytest.raises(ValueError, match="vector of typed keys"):
        images(jax.random.key(0))
    with pytest.raises(ValueError, match="whole batch of keys"):
        images(jax.random.split(jax.random.key(0, impl="rbg"), 2))
    with pytest.raises(ValueError, match=r"init has shape \(3, 2\), expected \(4, 2\)"):
        images(split(0, 4), init=jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="logvar_fraction is 1.5"):
        DDPM(1.5)
    with pytest.raises(ValueError, match="eta is -1"):
        ADDIM(-1.0)
