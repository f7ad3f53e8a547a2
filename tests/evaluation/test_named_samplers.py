"""What draws the rows of ``eval.samplers``."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sid2core import config
from sid2core.config.named_samplers import BUILT_IN
from sid2core.diffusion.guidance import ConstantGuidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDIM, Heun
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.errors import Sid2Error
from sid2core.evaluation import named_samplers, sampler_spec
from sid2core.inference import averages
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.model import Trained
from sid2core.inference.searched import Searched
from tests import tiny
from tests.refusals import refused

MODEL = Trained(
    Denoiser(tiny.Affine(), Prediction.X),
    CosineInterpolated(4, 4),
    tiny.affine(0.4, -0.4, 0.0, 0.4, 0.1),
    {},
    Path("artifacts/train"),
)
GUIDANCE = IntervalGuidance(0.5, -3.0, 5.0)


def made(by_search=GUIDANCE, /, **keys):
    entry = {"name": "few", "sampler": "ddim", "nfe": 4} | keys
    params = tiny.params(eval={"samplers": [entry]})
    found = Searched(MODEL, by_search)
    return named_samplers.specs(params.eval.named_samplers, MODEL, found, params.sampling)


@pytest.mark.parametrize(
    ("sampler", "guidance", "steps", "nfe"),
    [
        ("ddim", "none", [4, 8, 16], [4, 8, 16]),
        ("heun", "none", [2, 4, 8], [3, 7, 15]),
        ("ddim", {"weight": 1.0}, [2, 4, 8], [4, 8, 16]),
        ("heun", {"weight": 1.0}, [1, 2, 4], [2, 6, 14]),
    ],
)
def test_as_many_steps_as_fit_into_the_network_evaluations(sampler, guidance, steps, nfe):
    methods = [one.method for one in made(sampler=sampler, nfe=[4, 8, 16], guidance=guidance)]
    assert [one.steps for one in methods] == steps
    assert [one.nfe for one in methods] == nfe


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_with_an_interval_the_most_steps_that_fit_are_taken(sampler):
    for most in range(5, 20):  # below, only the first step fits, which lies outside the interval
        (one,) = made(sampler=sampler, nfe=most, guidance="searched")
        more = [replace(one.method, steps=steps).nfe for steps in range(one.method.steps + 1, 30)]
        assert one.method.nfe <= most < min(more)


def test_a_row_has_its_own_sampler_and_the_guidance_it_names():
    own = {"weight": 2.0, "interval": [-2.0, 2.0]}
    plain, searched, other = made(sampler="heun", nfe=5, guidance=["none", "searched", own])
    assert [one.method.sampler for one in (plain, searched, other)] == [Heun()] * 3
    assert plain.method.guidance == NoGuidance()
    assert searched.method.guidance == GUIDANCE
    assert other.method.guidance == IntervalGuidance(2.0, -2.0, 2.0)
    assert searched.params is MODEL.params
    assert [one.series for one in (plain, searched, other)] == [
        *("Heun", "Heun, guidance of the search", "Heun, guidance 2")
    ]
    assert plain.title == "Heun, 3 steps"
    (steps,) = made(nfe=None, steps=5)
    assert (steps.method.steps, steps.method.sampler) == (5, DDIM())


@pytest.mark.parametrize("weights", [7, {"kind": "power", "value": 0.1}])
def test_a_row_has_the_weights_it_names(monkeypatch, weights):
    asked = []

    def read(folder, net, average, step=None):
        asked.append((folder, average, step))
        return tiny.affine(0.9, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(averages, "read", read)
    first, second = made(weights=weights, nfe=[4, 8])
    assert first.params is second.params
    assert float(first.params["scale"]) == pytest.approx(0.9)
    average = None if weights == 7 else config.parse(tiny.raw(train={"emas": [weights]})).train.emas
    step = 7 if weights == 7 else None
    assert asked == [(MODEL.folder, average and average[0], step)], "read once"


def test_rows_without_a_negative_are_left_out_and_logged(caplog):
    (one,) = made(NoGuidance(), guidance=["none", "searched"])
    assert one.name == "few"
    assert "few_searched is left out: the search found no guidance" in caplog.text


def test_rows_whose_guidance_acts_at_no_step_are_left_out_and_logged(caplog):
    narrow = {"weight": 1.0, "interval": [2.0, 5.0]}
    (one,) = made(nfe=None, steps=[2, 9], guidance=narrow)
    assert one.name == "few_9"
    assert "few_2 is left out: none of its 2 steps lies in the interval" in caplog.text


def test_a_folder_without_weights_is_refused():
    params = tiny.params(eval={"samplers": [{"name": "a", "sampler": "ddim", "steps": 2}]})
    assert named_samplers.weights_of(params.eval.named_samplers) == {}
    other = {"name": "a", "sampler": "ddim", "steps": 2, "weights": "absent"}
    rows = tiny.params(eval={"samplers": [other]}).eval.named_samplers
    with refused(Sid2Error, "eval.samplers: absent", "expected a model's folder"):
        named_samplers.weights_of(rows)


def test_the_names_of_the_models_own_rows_are_taken():
    params = tiny.params()
    found = Searched(MODEL, ConstantGuidance(1.0))
    own = sampler_spec.evaluated(MODEL, params.sampling, 0.5, found)
    assert {one.name for one in own} <= {*BUILT_IN}
    assert all(math.isfinite(one.method.gflops_image) for one in own)
