"""Steps one at a time, and drawing beside known pixels, with the exact denoiser of a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.diffusion import samplers
from sid2core.diffusion.clipping import NoClip
from sid2core.diffusion.parametrisation import alpha_sigma
from sid2core.diffusion.samplers import stepping
from sid2core.diffusion.schedule import Cosine

COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]], np.float32)
COUNT, KNOWN, REPEATS = 2000, 1.5, 32
PLAN = samplers.SamplingPlan(samplers.DDPM(0.0), 16, Cosine())


def denoise(z, logsnr):
    """E[x | z] of x ~ N(0, COVARIANCE)."""
    alpha, sigma = (one[0] for one in alpha_sigma(logsnr))
    of_z = alpha**2 * COVARIANCE + sigma**2 * jnp.eye(2)
    return z @ (alpha * jnp.linalg.inv(of_z) @ COVARIANCE)


def advanced(drawn, keys, step, levels, guided):
    return stepping.advance(
        drawn,
        keys,
        step,
        levels,
        denoise,
        None,
        sampler=PLAN.sampler,
        guided=guided,
        weight=0.0,
        clip_x=NoClip(),
    )


def test_single_steps_are_those_of_the_loop():
    keys = jax.random.split(jax.random.key(0), 5)
    logsnr = np.asarray(PLAN.logsnr, np.float32)
    drawn = stepping.first(keys, PLAN.sampler, (2,), None, jnp.zeros(5))
    step_of = jax.jit(advanced, static_argnums=4)
    for run in PLAN.runs:
        for step in range(run.start, run.stop):
            levels = jnp.full(5, logsnr[step]), jnp.full(5, logsnr[step + 1])
            drawn = step_of(drawn, keys, step, levels, run.guided)
    expected = samplers.sample(keys, denoise, (2,), plan=PLAN, clip_x=NoClip())
    np.testing.assert_allclose(drawn.x_hat, expected, atol=1e-5)


@pytest.mark.slow
def test_drawn_pixels_have_the_conditional_mean_of_the_known_ones():
    """E[x_1 | x_2] = 0.8 x_2; repeated steps leave a small part of replacement's error."""
    single, repeated = (abs(inpainted(repeats) - 0.8 * KNOWN) for repeats in (1, REPEATS))
    assert repeated < 0.09
    assert repeated < single / 4


def inpainted(repeats):
    """The mean of x_1 where x_2 is known."""
    keys = jax.random.split(jax.random.key(1), COUNT)
    known = jnp.broadcast_to(jnp.array([0.0, KNOWN]), (COUNT, 2))
    mask = jnp.array([1.0, 0.0])
    logsnr = jnp.asarray(PLAN.logsnr, jnp.float32)

    def once(drawn, at):
        step, repeat = at // repeats, at % repeats
        levels = jnp.full(COUNT, logsnr[step]), jnp.full(COUNT, logsnr[step + 1])
        fresh, eps = (
            stepping.noise(stepping.repeated(keys, 1000 + 2 * repeat + i), step, (2,))
            for i in (0, 1)
        )
        again = stepping.noised_again(drawn.z, fresh, levels)
        drawn = drawn._replace(z=jnp.where(repeat > 0, again, drawn.z))
        drawn = advanced(drawn, stepping.repeated(keys, repeat), step, levels, (False,))
        return drawn._replace(z=stepping.replaced(drawn.z, known, mask, eps, levels[1])), None

    start = stepping.first(keys, PLAN.sampler, (2,), None, jnp.zeros(COUNT))
    steps = jnp.arange((PLAN.steps - 1) * repeats)
    drawn = jax.lax.scan(once, start, steps)[0]
    last = denoise(drawn.z, jnp.full(COUNT, logsnr[PLAN.steps - 1]))
    return float(last[:, 0].mean())
