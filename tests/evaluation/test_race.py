"""Which settings the guidance search draws."""

from dataclasses import replace
from pathlib import Path

from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.evaluation import race, sampler_spec
from sid2core.evaluation.race import Runner
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.guidance_search import Setting
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models
from tests import tiny

MODEL = Trained(
    Denoiser(tiny.Affine(), Prediction.X),
    CosineInterpolated(4, 4),
    tiny.affine(0.4, -0.4, 0.0, 0.4, 0.1),
    {},
    Path("artifacts/train"),
)


def distinct(*settings):
    """Those that are drawn. With two steps, guidance is evaluated at log-SNR -10 and 0."""
    sampling, models = tiny.params().sampling, Models(MODEL)
    runners = [
        Runner(one, sampler_spec.searched(models.of(one), sampling, f"setting-{index}"))
        for index, one in enumerate(replace(one, steps=one.steps or 2) for one in settings)
    ]
    return [one.setting for one in race.distinct(runners)]


def test_intervals_that_contain_the_same_steps_are_one_setting(caplog):
    first, same, others = Setting(1.0, -3.0, 5.0), Setting(1.0, -2.0, 4.0), Setting(2.0, -3.0, 5.0)
    kept = distinct(Setting(0.0), first, same, others, Setting(1.0))
    assert [(one.weight, one.interval) for one in kept] == [
        (0.0, "whole range"),
        (1.0, "(-3, 5)"),
        (2.0, "(-3, 5)"),
        (1.0, "whole range"),
    ]
    text = "weight 1 on (-2, 4) is left out: with 2 steps it is the same as weight 1 on (-3, 5)"
    assert caplog.messages == [text]


def test_an_interval_without_any_step_is_no_guidance(caplog):
    assert distinct(Setting(0.0), Setting(1.0, 2.0, 5.0)) == [Setting(0.0, steps=2)]
    assert "weight 1 on (2, 5) is left out" in caplog.text
    assert "the same as weight 0 on whole range" in caplog.text


def test_settings_of_other_samplers_or_steps_are_others():
    narrow = Setting(1.0, -3.0, 5.0)
    settings = [narrow, replace(narrow, steps=3), replace(narrow, sampler="heun")]
    assert len(distinct(*settings)) == 3
