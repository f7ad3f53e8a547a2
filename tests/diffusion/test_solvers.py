"""DPM-Solver++(2M) and Heun: their published algorithms, order of convergence, evaluations."""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.special import expit

from sid2core.diffusion.clipping import NoClip
from sid2core.diffusion.guidance import IntervalGuidance
from sid2core.diffusion.samplers import (
    DDIM,
    DPMSolver,
    Heun,
    SamplingPlan,
    Step,
    sample,
    sample_guided,
)
from sid2core.diffusion.schedule import Cosine, CosineInterpolated
from tests.diffusion.exact import MEAN, STD, gaussian_denoiser, mixture_denoiser

WIDTH = 0.25
"""Of the mixture's modes, wide enough that few steps resolve them."""
Z = np.linspace(-2.0, 2.0, 41)
"""Initial noise."""


@dataclass(frozen=True)
class Linear:
    """Log-SNR falls linearly, so all steps are equal in log-SNR; near infinite at t = 0."""

    low: float = -4.0
    high: float = 20.0

    def logsnr(self, t):
        return jnp.asarray(self.logsnr_exact(t), jnp.float32)

    def dlogsnr_dt(self, t):
        return jnp.full(jnp.shape(t), self.low - self.high, jnp.float32)

    def t_of(self, logsnr):
        return (self.high - jnp.asarray(logsnr)) / (self.high - self.low)

    def logsnr_exact(self, t):
        return self.high + (self.low - self.high) * np.asarray(t, np.float64)


mixture = functools.partial(mixture_denoiser, width=WIDTH)


def exact_mixture(z, lam):
    """The same denoiser in float64, written by the weights of the two modes."""
    a2, s2 = expit(lam), expit(-lam)
    alpha, spread = np.sqrt(a2), WIDTH**2 * a2 + s2
    density = [
        mass * np.exp(-0.5 * (z - alpha * centre) ** 2 / spread)
        for mass, centre in ((0.3, -0.6), (0.7, 0.5))
    ]
    first = density[0] / (density[0] + density[1])
    means = [c + WIDTH**2 * alpha * (z - alpha * c) / spread for c in (-0.6, 0.5)]
    return first * means[0] + (1 - first) * means[1]


@functools.cache
def mixture_solution(start):
    """x(inf) of the ODE y' = -(y - x_hat) / 2 in y = z / alpha over log-SNR, from Z at ``start``.

    That is dy / d(sigma / alpha) = eps_hat, to 1e-10.
    """

    def slope(lam, y):
        return -0.5 * (y - exact_mixture(np.sqrt(expit(lam)) * y, lam))

    y = Z / np.sqrt(expit(start))
    return integrate.solve_ivp(slope, (start, 40.0), y, "DOP853", rtol=1e-10, atol=1e-12).y[:, -1]


def gaussian_solution(start):
    """x = m + s (z - alpha m) / sqrt(alpha² s² + sigma²)."""
    alpha2 = expit(start)
    scale = np.sqrt(alpha2 * STD**2 + 1 - alpha2)
    return MEAN + STD * (Z - np.sqrt(alpha2) * MEAN) / scale


def images(denoise, plan):
    keys = jax.random.split(jax.random.key(0), len(Z))
    init = jnp.asarray(Z, jnp.float32)[:, None]

    @jax.jit
    def run(init):
        return sample(keys, denoise, (1,), plan=plan, clip_x=NoClip(), init=init)

    return np.asarray(run(init), np.float64)[:, 0]


DATA = {"gaussian": (gaussian_denoiser, gaussian_solution), "mixture": (mixture, mixture_solution)}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (DPMSolver(), 2), (Heun(), 2)])
def test_order_of_convergence(sampler, order, data):
    """Each doubling of the steps divides the distance to a fine ODE solution by 2^order."""
    denoise, solution = DATA[data]
    expected = solution(Linear.low)
    errors = [
        np.max(np.abs(images(denoise, SamplingPlan(sampler, steps, Linear())) - expected))
        for steps in (64, 128, 256)
    ]
    ratios = [np.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    np.testing.assert_allclose(ratios, order, atol=0.1)


@pytest.mark.parametrize("schedule", [Cosine(-10.0, 16.0), CosineInterpolated(128)], ids=str)
def test_second_order_is_closer_than_first_at_equal_evaluations(schedule):
    """On the schedules of the paper, where steps are unequal: 64 evaluations per image."""
    expected = mixture_solution(float(schedule.logsnr_exact(np.ones(1))[0]))

    def error(sampler, steps):
        plan = SamplingPlan(sampler, steps, schedule)
        assert plan.nfe <= 64
        return np.max(np.abs(images(mixture, plan) - expected))

    first = error(DDIM(), 64)
    assert error(DPMSolver(), 64) < 0.25 * first
    assert error(Heun(), 32) < 0.5 * first


def grid(schedule, steps):
    """alpha, sigma and log-SNR of the grid in float64."""
    lam = schedule.logsnr_exact(np.linspace(1.0, 0.0, steps + 1))
    return np.sqrt(expit(lam)), np.sqrt(expit(-lam)), lam


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_dpm_solver_is_its_published_algorithm(steps):
    """Algorithm 2 of arXiv 2211.01095 in its own terms (lambda = log(alpha / sigma)), in float64.

    First and last step are first order; the last goes to sigma = 0.
    """
    schedule = CosineInterpolated(128)
    alpha, sigma, lam = grid(schedule, steps)
    half, x = lam / 2, Z
    previous = None
    for i in range(steps):
        predicted = exact_mixture(x, lam[i])
        if i == steps - 1:
            x = predicted
            break
        h, target = half[i + 1] - half[i], predicted
        if previous is not None:
            r = (half[i] - half[i - 1]) / h
            target = (1 + 1 / (2 * r)) * predicted - 1 / (2 * r) * previous
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (np.exp(-h) - 1) * target
        previous = predicted
    found = images(mixture, SamplingPlan(DPMSolver(), steps, schedule))
    np.testing.assert_allclose(found, x, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_heun_is_its_published_algorithm(steps):
    """Algorithm 1 of arXiv 2206.00364 without churn, in x / alpha and sigma / alpha, in float64."""
    schedule = CosineInterpolated(128)
    alpha, sigma, lam = grid(schedule, steps)
    t = np.append((sigma / alpha)[:-1], 0.0)
    x = Z / alpha[0]
    for i in range(steps):
        slope = (x - exact_mixture(alpha[i] * x, lam[i])) / t[i]
        following = x + (t[i + 1] - t[i]) * slope
        if t[i + 1] != 0:
            end = (following - exact_mixture(alpha[i + 1] * following, lam[i + 1])) / t[i + 1]
            following = x + (t[i + 1] - t[i]) * (slope + end) / 2
        x = following
    found = images(mixture, SamplingPlan(Heun(), steps, schedule))
    np.testing.assert_allclose(found, x, atol=1e-4)


@pytest.mark.parametrize("sampler", [DPMSolver(), Heun()], ids=str)
@pytest.mark.parametrize("interval", [(-3.0, 5.0), (-100.0, 100.0), (0.0, 1.0)])
def test_the_negative_is_evaluated_where_guidance_acts_and_nowhere_else(sampler, interval):
    """Each evaluation by its own noise level, the inner ones of a step included; NFE by a probe."""
    levels = {"positive": [], "negative": []}

    def probe(name):
        def network(z, logsnr):
            jax.debug.callback(lambda lam: levels[name].append(float(lam)), logsnr[0])
            return 0.5 * z

        return network

    plan = SamplingPlan(sampler, 16, CosineInterpolated(512), interval)
    keys = jax.random.split(jax.random.key(0), 2)
    run = jax.jit(
        lambda keys: sample_guided(
            keys, probe("positive"), probe("negative"), (2,), plan=plan, weight=1.0
        )
    )
    jax.block_until_ready(run(keys))
    jax.effects_barrier()
    lam = grid(plan.schedule, 16)[2]
    # The inner levels of Heun's steps are the starts of the following ones.
    expected = lam[:16] if sampler == DPMSolver() else np.concatenate([lam[:16], lam[1:16]])
    guided = expected[(interval[0] < expected) & (expected < interval[1])]
    np.testing.assert_allclose(np.sort(levels["positive"]), np.sort(expected), rtol=1e-5)
    np.testing.assert_allclose(np.sort(levels["negative"]), np.sort(guided), rtol=1e-5)
    assert plan.nfe == len(expected) + len(guided)


@pytest.mark.parametrize("sampler", [DPMSolver(), Heun()], ids=str)
def test_the_interval_sampler_equals_the_naive_one(sampler):
    """The naive one evaluates both networks everywhere, masks, and samples without guidance."""
    guidance = IntervalGuidance(1.5, -3.0, 5.0)
    schedule, keys = CosineInterpolated(512), jax.random.split(jax.random.key(1), 3)

    def negative(z, logsnr):
        return 0.4 * z - 0.1

    def masked(z, logsnr):
        on = ((logsnr > -3.0) & (logsnr < 5.0))[:, None]
        x_cond = mixture(z, logsnr)
        return jnp.where(on, 2.5 * x_cond - 1.5 * negative(z, logsnr), x_cond)

    @jax.jit
    def both(keys):
        plan = SamplingPlan(sampler, 24, schedule, guidance.interval)
        guided = sample_guided(keys, mixture, negative, (4,), plan=plan, weight=guidance.weight)
        naive = sample(keys, masked, (4,), plan=SamplingPlan(sampler, 24, schedule))
        return guided, naive

    guided, naive = both(keys)
    np.testing.assert_allclose(guided, naive, rtol=1e-4, atol=1e-5)


def test_a_second_evaluation_needs_the_model():
    z, lam = jnp.zeros((1, 2)), jnp.zeros(1)
    with pytest.raises(ValueError, match=r"step\.denoise is None"):
        Heun().step(z, z, (), Step(lam, lam + 1.0, z))
