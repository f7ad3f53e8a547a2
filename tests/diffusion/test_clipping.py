"""Clipping against closed forms: of one example, of a batch, and shared by two devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sid2core.diffusion.clipping import DynamicClip, NoClip, StaticClip
from sid2core.diffusion.samplers import DDPM, DPMSolver, Heun, SamplingPlan, sample
from sid2core.diffusion.schedule import CosineInterpolated

RAMP = np.linspace(-4.0, 4.0, 201, dtype=np.float32)
"""|x| has the quantile q at 4 q, but for its values being 101 different ones."""


def test_static():
    np.testing.assert_array_equal(StaticClip()(jnp.asarray(RAMP)[None])[0], RAMP.clip(-1, 1))
    np.testing.assert_array_equal(NoClip()(jnp.asarray(RAMP)[None])[0], RAMP)


@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.9, 0.995, 1.0])
def test_dynamic_divides_by_the_quantile_of_each_example(quantile):
    batch = np.stack([RAMP, 0.5 * RAMP, 0.1 * RAMP]).reshape(3, 3, 67, 1)
    found = np.asarray(DynamicClip(quantile)(jnp.asarray(batch)))
    for x, clipped in zip(batch, found, strict=True):
        s = max(1.0, np.quantile(np.abs(x).astype(np.float64), quantile))
        np.testing.assert_allclose(clipped, x.clip(-s, s) / s, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[2], batch[2])


def test_dynamic_is_static_where_few_values_are_outside():
    x = np.zeros((1, 1000), np.float32)
    x[0, :4] = [3.0, -2.0, 1.5, 1.0]
    np.testing.assert_array_equal(DynamicClip(0.99)(jnp.asarray(x)), x.clip(-1, 1))
    assert float(jnp.max(DynamicClip(1.0)(jnp.asarray(x)))) == 1.0
    assert float(DynamicClip(1.0)(jnp.asarray(x))[0, 1]) == pytest.approx(-2 / 3)


@pytest.mark.parametrize("quantile", [0.0, -0.1, 1.1])
def test_what_is_no_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile is"):
        DynamicClip(quantile)


def three_times(z, logsnr):
    return 3.0 * z


@pytest.mark.parametrize("sampler", [DDPM(), DPMSolver(), Heun()], ids=str)
def test_samplers_clip_their_last_prediction(sampler):
    """Also on two devices, where each example is still clipped by its own quantile."""
    plan = SamplingPlan(sampler, 3, CosineInterpolated(8))
    keys = jax.random.split(jax.random.key(0), 2)

    @jax.jit
    def images(keys):
        kinds = StaticClip(), DynamicClip(0.5), NoClip()
        return [sample(keys, three_times, (2, 8), plan=plan, clip_x=clip_x) for clip_x in kinds]

    static, dynamic, unclipped = images(keys)
    assert float(jnp.max(jnp.abs(static))) == float(jnp.max(jnp.abs(dynamic))) == 1.0
    assert float(jnp.max(jnp.abs(unclipped))) > 1.0
    assert np.mean(np.abs(dynamic) < 1 - 1e-6) == 0.5
    mesh = jax.make_mesh((2,), ("data",))
    shared = images(jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data"))))
    np.testing.assert_allclose(shared[1], dynamic, rtol=1e-5, atol=1e-6)
