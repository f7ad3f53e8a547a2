import math
from typing import get_args

import numpy as np
import pytest

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import ParamsError, build
from sid2core.diffusion import clipping, losses, samplers, schedule
from sid2core.diffusion import weighting as wt
from sid2core.diffusion.parametrisation import Prediction
from tests import tiny


def schedule_settings(name="cosine_interpolated", **changes):
    fields = {"logsnr_min": -10.0, "logsnr_max": 10.0}
    if name == "cosine_interpolated":
        fields |= {"noise_res_low": 32, "noise_res_high": None, "shift": "sid"}
    return config.Schedule.model_validate({"name": name, name: fields | changes})


STILL = {"bias_start": None, "bias_steps": None}
NEEDED = {
    "sigmoid": {"bias": -1.0} | STILL,
    "power": {"bias": -1.0, "levels": 2, "normalisation": "mean"} | STILL,
}


def loss_settings(name, **changes):
    return config.Loss.model_validate({"name": name, name: NEEDED.get(name, {}) | changes})


def ends(settings, size):
    return build.noise_schedule(settings, size).logsnr_exact(np.array([0.0, 1.0]))


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


def test_every_kind_makes_something():
    for name in config.SCHEDULES:
        made = build.noise_schedule(schedule_settings(name), 64)
        assert isinstance(made, schedule.Schedule)
    for name in config.SAMPLERS:
        made = build.sampler(tiny.params(sampling={"sampler": {"name": name}}).sampling)
        assert isinstance(made, samplers.Sampler)
    for name in config.CLIPPINGS:
        made = build.clip_x(tiny.params(sampling={"clip_x": {"name": name}}).sampling)
        assert isinstance(made, clipping.ClipX)
    for name in config.LOSSES:
        made = build.training_loss(loss_settings(name), (8, 8, 1))
        assert isinstance(made, losses.TrainingLoss)
    for name in get_args(config.Diffusion.model_fields["prediction"].annotation):
        assert Prediction(name).value == name


def test_a_schedule_that_would_rise_is_refused_by_its_keys():
    settings = schedule_settings(noise_res_low=4096, noise_res_high=8)
    with pytest.raises(
        ParamsError, match=r"^diffusion\.schedule\.cosine_interpolated: .*noise_res_low"
    ):
        build.noise_schedule(settings, 8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ddpm", samplers.DDPM(0.7)),
        ("ddim", samplers.DDIM()),
        ("dpm_solver", samplers.DPMSolver()),
        ("heun", samplers.Heun()),
        ("addim", samplers.ADDIM(0.3)),
    ],
)
def test_a_sampler_takes_its_own_parameters(name, expected):
    kinds = {"ddpm": {"logvar_fraction": 0.7}, "addim": {"eta": 0.3}}
    settings = tiny.params(sampling={"sampler": {"name": name} | kinds})
    assert build.sampler(settings.sampling) == expected


def test_clipping_as_earlier_files_have_it():
    raw = tiny.raw()
    expected = {True: clipping.StaticClip(), False: clipping.NoClip()}
    del raw["sampling"]["clip_x"]
    for clip, made in expected.items():
        raw["sampling"]["clip"] = clip
        assert build.clip_x(config.parse(raw).sampling) == made
    raw["sampling"]["clip_x"] = {"name": "dynamic", "dynamic": {"quantile": 0.9}}
    with pytest.raises(ParamsError, match=r"sampling: clip is the earlier form .* remove clip"):
        config.parse(raw)
    del raw["sampling"]["clip"]
    assert build.clip_x(config.parse(raw).sampling) == clipping.DynamicClip(0.9)


MOVING = {"bias": -3.0, "bias_start": -8.0, "bias_steps": 100}
MOVED = wt.TimeShiftedBias(start=-8.0, end=-3.0, steps=100)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (loss_settings("sigmoid", bias=-3.0), losses.WeightedLoss(wt.SigmoidWeighting(-3.0))),
        (loss_settings("sigmoid", **MOVING), losses.WeightedLoss(wt.SigmoidWeighting(MOVED))),
        (loss_settings("edm"), losses.WeightedLoss(wt.EdmWeighting(2 * math.log(64 / 256)))),
        (
            loss_settings("edm_monotonic"),
            losses.WeightedLoss(wt.EdmMonotonicWeighting(2 * math.log(64 / 256))),
        ),
        (loss_settings("elbo"), losses.WeightedLoss(wt.ElboWeighting())),
        (loss_settings("low_bit"), losses.WeightedLoss(wt.LowBitWeighting(256))),
        (loss_settings("power", bias=-3.0, levels=2), losses.PowerLoss(-3.0, 2)),
        (loss_settings("power", levels=0, **MOVING), losses.PowerLoss(MOVED, 0)),
        (
            loss_settings("power", bias=-3.0, normalisation="sum"),
            losses.PowerLoss(-3.0, 2, losses.Normalisation.SUM),
        ),
    ],
    ids=lambda case: case.name if isinstance(case, config.Loss) else "",
)
@pytest.mark.parametrize("shape", [(256, 128, 3), (16, 256, 128, 3)], ids=["images", "video"])
def test_a_loss_takes_its_own_parameters_and_the_images_height(settings, expected, shape):
    made = build.training_loss(settings, shape)
    assert made == expected
    assert hash(made) == hash(expected)


@pytest.mark.parametrize(
    ("shape", "levels", "most"),
    [((8, 8, 1), 4, 3), ((24, 16, 3), 4, 3), ((16, 24, 3), 5, 3), ((28, 28, 1), 3, 2)]
    + [((7, 8, 1), 1, 0), ((16, 64, 48, 3), 5, 4)],
)
def test_a_power_loss_that_splits_too_often_is_refused_with_the_most_that_fits(shape, levels, most):
    height, width = shape[-3:-1]
    cure = (
        rf"^diffusion\.loss\.power: found levels {levels}, .* divide by 2\^{levels}; "
        rf"images of {height} × {width} .* lower it to {most}, or change the image size$"
    )
    with pytest.raises(ParamsError, match=cure):
        build.training_loss(loss_settings("power", bias=0.0, levels=levels), shape)
    made = build.training_loss(loss_settings("power", bias=0.0, levels=most), shape)
    assert made == losses.PowerLoss(0.0, most)


def test_the_network_takes_every_key_of_its_section_and_the_images_shape():
    settings = tiny.params().model
    spec = ConditionSpec.of_classes(7)
    made = build.network(settings, (16, 32, 3), spec)
    assert made.image_shape == (16, 32, 3)
    assert made.condition == spec
    values = settings.model_dump()
    values |= {f"text_{name}": value for name, value in values.pop("text").items()}
    for name, value in values.items():
        assert getattr(made, name) == (tuple(value) if isinstance(value, list) else value)
    assert hash(made) == hash(build.network(settings, (16, 32, 3), spec))
