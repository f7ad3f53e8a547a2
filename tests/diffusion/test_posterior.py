"""The student's step: between the posterior and DDIM, every eta keeps the marginal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from sid2core.diffusion.samplers import DDIM, DDPM, Posterior, Sampler, Step

LAM_T, LAM_S = np.array([-8.0, -1.0, 3.0]), np.array([-7.5, 2.0, 12.0])


def advance(sampler, z, x_hat, noise):
    z, x_hat, noise = (jnp.float32(one)[:, None] for one in (z, x_hat, noise))
    step = Step(jnp.float32(LAM_T), jnp.float32(LAM_S), noise)
    return sampler.step(z, x_hat, sampler.init(z), step)[0][:, 0]


def normals(seed):
    return jax.random.normal(jax.random.key(seed), (3,))


@pytest.mark.parametrize(("eta", "limit"), [(1.0, DDPM(0.0)), (0.0, DDIM())])
def test_its_ends_are_the_posterior_and_ddim_to_the_last_bit(eta, limit):
    drawn = [normals(seed) for seed in range(3)]
    np.testing.assert_array_equal(advance(Posterior(eta), *drawn), advance(limit, *drawn))
    near = advance(Posterior(abs(eta - 1e-6)), *drawn)
    np.testing.assert_allclose(near, advance(limit, *drawn), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.5, 1.0])
def test_every_eta_keeps_the_marginal(eta):
    """With x and eps of z_t: z_s = alpha_s x + a eps + b noise with a² + b² = sigma_s²."""
    sampler = Posterior(eta)
    from_eps = np.float64(advance(sampler, np.sqrt(expit(-LAM_T)), np.zeros(3), np.zeros(3)))
    from_noise = np.float64(advance(sampler, np.zeros(3), np.zeros(3), np.ones(3)))
    np.testing.assert_allclose(from_eps**2 + from_noise**2, expit(-LAM_S), rtol=1e-4)
    posterior = (1 - np.exp(LAM_T - LAM_S)) * expit(-LAM_S)
    np.testing.assert_allclose(from_noise**2, eta**2 * posterior, rtol=1e-4)
    signal = advance(sampler, np.sqrt(expit(LAM_T)) * 0.7, np.full(3, 0.7), np.zeros(3))
    np.testing.assert_allclose(signal, 0.7 * np.sqrt(expit(LAM_S)), rtol=1e-4)


def test_it_follows_the_protocol_and_refuses_other_etas(unchecked):
    assert isinstance(Posterior(), Sampler)
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"eta is {eta}"):
            Posterior(eta)
