"""Autoguidance of two Gaussian denoisers: samples have the means and variances of a recursion."""

import jax
import numpy as np
import pytest
from scipy.special import expit

from sid2core.diffusion.clipping import NoClip
from sid2core.diffusion.guidance import AutoGuidance, ConstantGuidance
from sid2core.diffusion.samplers import DDPM, SamplingPlan, sample_guided
from sid2core.diffusion.schedule import CosineInterpolated

SCHEDULE, STEPS = CosineInterpolated(16), 24
GOOD, BAD, NULL = (0.4, 0.3), (0.1, 0.6), (-0.5, 0.3)
"""Mean and standard deviation of the data that each model was trained on."""
COUNT, SIDE = 2000, 16


def coefficients(model, logsnr):
    """(a, b) of x_hat = a z + b, the posterior mean of data N(m, s²)."""
    mean, deviation = model
    alpha2, sigma2 = expit(logsnr), expit(-logsnr)
    gain = deviation**2 * np.sqrt(alpha2) / (deviation**2 * alpha2 + sigma2)
    return gain, mean - gain * np.sqrt(alpha2) * mean


def denoiser(model):
    mean, deviation = model

    def x_hat(z, logsnr):
        alpha = jax.nn.sigmoid(logsnr)[:, None, None, None] ** 0.5
        sigma2 = jax.nn.sigmoid(-logsnr)[:, None, None, None]
        gain = deviation**2 * alpha / (deviation**2 * alpha**2 + sigma2)
        return mean + gain * (z - alpha * mean)

    return x_hat


def recursion(guidance, negative):
    """Mean and variance of DDPM's samples, step by step in float64."""
    low, high = guidance.interval
    levels = SCHEDULE.logsnr_exact(1 - np.arange(STEPS + 1) / STEPS)
    mean, variance = 0.0, 1.0
    for index, (t, s) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        (a, b), (a_bad, b_bad) = (coefficients(one, t) for one in (GOOD, negative))
        g = guidance.weight if low < t < high else 0.0
        a, b = (1 + g) * a - g * a_bad, (1 + g) * b - g * b_bad
        if index == STEPS - 1:
            return a * mean + b, a**2 * variance
        r = np.exp(t - s)
        keep = r * np.sqrt(expit(s) / expit(t))
        gain = (1 - r) * np.sqrt(expit(s))
        spread = (1 - r) * expit(-t) ** 0.3 * expit(-s) ** 0.7
        mean = (keep + gain * a) * mean + gain * b
        variance = (keep + gain * a) ** 2 * variance + spread
    raise AssertionError


def samples(guidance, negative):
    plan = SamplingPlan(DDPM(0.3), STEPS, SCHEDULE, guidance.interval)

    @jax.jit
    def images(keys):
        return sample_guided(
            keys,
            denoiser(GOOD),
            denoiser(negative),
            (SIDE, SIDE, 1),
            plan=plan,
            weight=guidance.weight,
            clip_x=NoClip(),
        )

    return np.asarray(images(jax.random.split(jax.random.key(0), COUNT)), np.float64)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("bounds", [(None, None), (-3.0, 2.0)], ids=["everywhere", "interval"])
def test_the_samples_have_the_moments_of_the_recursion(weight, bounds):
    guidance = AutoGuidance(weight, *bounds)
    found, (mean, variance) = samples(guidance, BAD), recursion(guidance, BAD)
    error = np.sqrt(variance / found.size)
    assert found.mean() == pytest.approx(mean, abs=5 * error)
    assert found.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / found.size))


def test_it_differs_from_guidance_by_the_null_condition():
    auto = samples(AutoGuidance(0.5), BAD)
    constant = samples(ConstantGuidance(0.5), NULL)
    assert np.abs(auto - constant).mean() > 0.05
