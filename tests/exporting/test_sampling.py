"""The exported sampling rules against ours, with a formula instead of a network."""

import jax
import numpy as np
import pytest

from sid2core import rng
from sid2core.diffusion import samplers
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.exporting import names
from sid2core.exporting.files import sampling
from sid2core.models.network import Network
from tests.models import configs

SHAPE, STEPS = (2, 2, 1), 5
SCHEDULE = {"logsnr_min": -10.0, "logsnr_max": 10.0, "shift": [0.0, 2 * np.log(8 / 16)]}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (samplers.DDPM(), {"name": "ddpm", "logvar_fraction": 0.3}),
        (samplers.Posterior(0.5), {"name": "posterior", "eta": 0.5}),
        (samplers.DPMSolver(), {"name": "dpm_solver"}),
        (samplers.Heun(), {"name": "heun"}),
        (samplers.ADDIM(), {"name": "addim", "eta": 0.1}),
    ],
)
def test_the_same_images_from_the_same_noise(ours, theirs):
    plan = samplers.SamplingPlan(ours, STEPS, CosineInterpolated(16, 8), (-3.0, 3.0))
    keys = rng.keys(rng.key(0, "test"), np.arange(2))
    expected = samplers.sample_guided(
        keys, lambda z, _: 0.5 * z, lambda z, _: 0.4 * z, SHAPE, plan=plan, weight=0.7
    )

    def noise(step):
        return np.stack([standard_normal(jax.random.fold_in(key, step), SHAPE) for key in keys])

    settings = {"schedule": SCHEDULE, "prediction": "x", "sampler": theirs, "steps": STEPS}
    settings |= {"guidance": 0.7, "interval": [-3.0, 3.0]}
    found = sampling.draw(lambda z, _, negative: (0.4 if negative else 0.5) * z, noise, settings)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_weights_come_back_from_pytorchs_layouts():
    shapes = {name: one.shape for name, one in Network(configs.tiny()).shapes().items()}
    draws = np.random.default_rng(0)
    params = {name: draws.normal(size=shape) for name, shape in shapes.items()}
    arrays = names.all_to_torch(params)
    assert {name: one.shape for name, one in arrays.items()} == names.torch_shapes(shapes)
    back = names.from_torch(arrays, shapes)
    assert all(np.array_equal(back[name], params[name]) for name in params)
