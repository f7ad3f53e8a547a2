"""Samples that continue given frames, of a process whose exact conditional denoiser is known.

Every pixel is an autoregressive process of unit variance on its own:

    x_j = r x_{j−1} + sqrt(1 − r²) n_j.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core import rng
from sid2core.conditioning import Condition, ConditionSpec, Given
from sid2core.data.load.pixels import to_unit
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import ConstantGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDIM, DDPM, SamplingPlan, Step
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.generator import Generator, Method
from sid2core.models.network import Network
from tests import tiny

SCHEDULE = CosineInterpolated(4, 4)
R, GIVEN, PREDICTED = 0.8, 2, 3
LAGS = np.arange(1, PREDICTED + 1)
COVARIANCE = R ** np.abs(LAGS[:, None] - LAGS) - R ** (LAGS[:, None] + LAGS)
"""Of the predicted frames, given the ones before."""


def shape(side):
    spec = ConditionSpec().with_given(GIVEN, (GIVEN + PREDICTED, side, side, 1))
    return replace(tiny.Affine().config, image_shape=(PREDICTED, side, side, 1), condition=spec)


@dataclass(frozen=True)
class Autoregressive(Network):
    """The exact conditional denoiser.

    E[x | z, given] = m + C α (α² C + σ² I)⁻¹ (z − α m), m_j = r^j times the last given frame.
    """

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        last = to_unit(condition.given.frames[:, -1:])
        mean = last * jnp.asarray(R**LAGS, jnp.float32)[None, :, None, None, None]
        alpha, sigma2 = jnp.sqrt(jax.nn.sigmoid(logsnr)), jax.nn.sigmoid(-logsnr)
        covariance = jnp.asarray(COVARIANCE, jnp.float32)

        def gain(alpha, sigma2):
            noised = alpha**2 * covariance + sigma2 * jnp.eye(PREDICTED)
            return alpha * jnp.linalg.solve(noised, covariance).T

        scaled = alpha[:, None, None, None, None] * mean
        return mean + jnp.einsum("bij,bjhwc->bihwc", jax.vmap(gain)(alpha, sigma2), z - scaled)


def denoiser(side=1):
    return Denoiser(Autoregressive(shape(side)), Prediction.X)


def given(frames):
    return Condition(given=Given(jnp.asarray(frames), jnp.ones(len(frames), bool)))


def exact(sampler, steps, last):
    """Mean and covariance of what is drawn, by the sampler's own steps, which are affine in z.

    Each step is evaluated at zero and at unit vectors, of z and of its noise. The first z is that
    of the process: some signal is left where log-SNR is -10.
    """
    points = 2 * PREDICTED + 1
    unit = np.concatenate([np.zeros((1, PREDICTED)), np.eye(PREDICTED)])
    z = np.concatenate([unit, np.zeros((PREDICTED, PREDICTED))])
    noise = np.concatenate([0 * unit, np.eye(PREDICTED)])
    z, noise = (jnp.asarray(one[..., None, None, None], jnp.float32) for one in (z, noise))
    condition = given(np.full((points, GIVEN, 1, 1, 1), last, np.uint8))

    def affine(values):
        changes = (values[1:] - values[:1]).T
        return values[0], changes[:, :PREDICTED], changes[:, PREDICTED:]

    def moments(mean, covariance, values):
        offset, gain, spread = affine(values.reshape(points, PREDICTED))
        return gain @ mean + offset, gain @ covariance @ gain.T + spread @ spread.T

    def body(carry, levels):
        logsnr_t, logsnr_s = (jnp.full(points, level) for level in levels)
        x_hat = denoiser()({}, z, logsnr_t, condition)
        stepped, _ = sampler.step(z, x_hat, sampler.init(z), Step(logsnr_t, logsnr_s, noise))
        return moments(*carry, stepped), None

    levels = jnp.asarray(SamplingPlan(sampler, steps, SCHEDULE).logsnr, jnp.float32)
    alpha2 = jax.nn.sigmoid(levels[0])
    mean = jnp.asarray((last / 127.5 - 1) * R**LAGS, jnp.float32)
    noised = alpha2 * jnp.asarray(COVARIANCE, jnp.float32) + (1 - alpha2) * jnp.eye(PREDICTED)
    start = jnp.sqrt(alpha2) * mean, noised
    (mean, covariance), _ = jax.lax.scan(body, start, (levels[:-2], levels[1:-1]))
    x_hat = denoiser()({}, z, jnp.full(points, levels[-2]), condition)
    return moments(mean, covariance, x_hat)


@pytest.mark.parametrize("sampler", [DDPM(), DDIM()], ids=["ddpm", "ddim"])
@pytest.mark.parametrize("last", [0, 200])
def test_what_is_drawn_has_the_moments_of_the_process_after_the_given_frames(sampler, last):
    mean, covariance = jax.jit(exact, static_argnums=(0, 1, 2))(sampler, 1000, last)
    np.testing.assert_allclose(mean, (last / 127.5 - 1) * R**LAGS, atol=2e-3)
    np.testing.assert_allclose(covariance, COVARIANCE, atol=5e-3)


@pytest.mark.parametrize("guidance", [NoGuidance(), ConstantGuidance(0.5)])
def test_samples_are_whole_clips_that_begin_with_the_given_frames(guidance):
    method = Method(denoiser(4), SCHEDULE, DDPM(), guidance, 4, StaticClip())
    frames = np.random.default_rng(0).integers(0, 256, (5, GIVEN, 4, 4, 1), np.uint8)
    condition = Condition(given=Given(frames, np.ones(5, bool)))
    found = Generator(method, {}, 3).images(rng.key(0, "clips"), np.arange(5), condition)
    assert found.dtype == np.uint8
    assert found.shape == (5, GIVEN + PREDICTED, 4, 4, 1)
    assert (found[:, :GIVEN] == frames).all()
    assert len({clip.tobytes() for clip in found[:, GIVEN:]}) == 5
