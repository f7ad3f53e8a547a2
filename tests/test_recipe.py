import math
from typing import get_args

import numpy as np
import pytest

from sid2core import config, recipe
from sid2core.config import ParamsError
from sid2core.diffusion import samplers, schedule
from sid2core.diffusion.parametrisation import Prediction
from tests import tiny


def choices(section, name):
    return get_args(section.model_fields[name].annotation)


def schedule_settings(**changes):
    fields = {
        "name": "cosine_interpolated",
        "noise_res_low": 32,
        "noise_res_high": None,
        "logsnr_min": -10.0,
        "logsnr_max": 10.0,
        "shift": "sid",
    }
    return config.Schedule(**(fields | changes))


def ends(settings, size):
    return recipe.noise_schedule(settings, size).logsnr_exact(np.array([0.0, 1.0]))


@pytest.mark.parametrize(
    ("size", "shift", "last"),
    [(512, "sid", -15.55), (512, "listing", -7.23), (256, "sid", -14.16), (128, "sid", -12.77)],
)
def test_the_schedule_has_the_published_ends(size, shift, last):
    assert ends(schedule_settings(shift=shift), size) == pytest.approx([10.0, last], abs=0.01)


def test_the_high_end_follows_the_image_unless_it_is_given():
    """At t = 0 the log-SNR is moved by 2 log(noise_res_high / size)."""
    given = ends(schedule_settings(noise_res_high=256), 512)
    assert given == pytest.approx([10.0 + 2 * math.log(256 / 512), -15.55], abs=0.01)
    assert ends(schedule_settings(noise_res_high=512), 512) == pytest.approx(
        ends(schedule_settings(), 512)
    )


def test_the_plain_cosine_knows_no_resolution():
    settings = schedule_settings(name="cosine", logsnr_min=-8.0, logsnr_max=9.0)
    assert ends(settings, 8) == pytest.approx([9.0, -8.0])
    assert ends(settings, 512) == pytest.approx([9.0, -8.0])


def test_every_name_in_the_schema_picks_something():
    for name in choices(config.Schedule, "name"):
        made = recipe.noise_schedule(schedule_settings(name=name), 64)
        assert isinstance(made, schedule.Schedule)
    for name in choices(config.Sampling, "sampler"):
        made = recipe.sampler(tiny.params(sampling={"sampler": name}).sampling)
        assert isinstance(made, samplers.Sampler)
    for name in choices(config.Diffusion, "prediction"):
        assert Prediction(name).value == name


def test_a_schedule_that_would_rise_is_refused_by_its_keys():
    settings = schedule_settings(noise_res_low=4096, noise_res_high=8)
    with pytest.raises(ParamsError, match=r"^diffusion\.schedule: .*noise_res_low"):
        recipe.noise_schedule(settings, 8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ddpm", samplers.DDPM(0.7)),
        ("ddim", samplers.DDIM()),
        ("addim", samplers.ADDIM(0.3)),
    ],
)
def test_a_sampler_takes_its_own_parameters(name, expected):
    settings = tiny.params(sampling={"sampler": name, "logvar_fraction": 0.7, "eta": 0.3})
    assert recipe.sampler(settings.sampling) == expected


def test_the_weighting_has_its_bias():
    weighting = recipe.loss_weighting(config.Loss(name="sigmoid", bias=-3.0))
    levels = np.array([-20.0, -3.0, 0.0, 20.0], np.float32)
    expected = 1 / (1 + np.exp(np.float64(levels) + 3))
    np.testing.assert_allclose(weighting(levels, 0), expected, rtol=1e-4)


def test_the_network_takes_every_key_of_its_section_and_the_images_shape():
    settings = tiny.params().model
    made = recipe.network(settings, (16, 32, 3), 7)
    assert made.image_shape == (16, 32, 3)
    assert made.num_classes == 7
    for name, value in settings.model_dump().items():
        assert getattr(made, name) == (tuple(value) if isinstance(value, list) else value)
    assert hash(made) == hash(recipe.network(settings, (16, 32, 3), 7))
