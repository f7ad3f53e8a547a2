"""``eval.samplers``: what rows an entry makes, and what is refused."""

import pytest

from sid2core.config import ParamsError, checks, presets
from sid2core.config.named_samplers import BUILT_IN
from sid2core.diffusion.samplers import ADDIM, DDPM
from sid2core.evaluation.samplers_table import TITLES
from tests import tiny
from tests.refusals import refused


def rows(*entries):
    return tiny.params(eval={"samplers": [*entries]}).eval.named_samplers


def entry(**keys):
    return {"name": "few", "sampler": "ddim", "nfe": 4} | keys


def test_an_entry_with_one_value_of_each_key_is_a_row_of_its_name():
    (row,) = rows(entry())
    assert (row.name, row.sampler.name, row.steps, row.nfe) == ("few", "ddim", None, 4)
    assert (row.weights, row.guidance) == ("usual", "none")


def test_lists_are_combined_and_only_they_are_in_the_names():
    found = rows(entry(sampler=["ddim", "heun"], nfe=[4, 8], guidance=["none", {"weight": 0.5}]))
    assert [row.name for row in found] == [
        *("few_ddim_4", "few_ddim_8", "few_ddim_4_guided_0_5", "few_ddim_8_guided_0_5"),
        *("few_heun_4", "few_heun_8", "few_heun_4_guided_0_5", "few_heun_8_guided_0_5"),
    ]
    steps = entry(nfe=None, steps=[2, 3])
    assert [(row.name, row.steps) for row in rows(steps)] == [("few_2", 2), ("few_3", 3)]


def test_presets_of_a_real_budget_have_the_baselines_of_a_student():
    params = presets.change(
        presets.read("kinetics600", tiny.ROOT / "conf"), tiny.ROOT / "params.yaml"
    ).params
    found = params.eval.named_samplers
    kinds = {(row.sampler.name, row.nfe, row.guidance) for row in found}
    names = ("ddpm", "ddim", "addim", "dpm_solver", "heun")
    assert kinds == {(a, b, c) for a in names for b in (4, 8, 16) for c in ("none", "searched")}
    assert len(found) == 30


def test_a_name_alone_is_the_sampler_with_the_defaults_of_its_class():
    found = rows({"name": "few", "sampler": ["ddpm", "addim"], "nfe": 4})
    assert [one.sampler.build() for one in found] == [DDPM(), ADDIM()]


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        ({"nfe": None}, "eval.samplers.0", "few has steps None and nfe None; give one of them"),
        ({"steps": 4}, "eval.samplers.0", "few has steps [4] and nfe [4]"),
        ({"nfe": 1}, "eval.samplers.0.nfe.0: found 1", "greater than or equal to 2"),
        ({"nfe": None, "steps": [2, 0]}, "eval.samplers.0.steps.1: found 0", "greater than 0"),
        ({"sampler": "dimm"}, "eval.samplers.0.sampler.0.name", "the nearest is ddim"),
        (
            {"sampler": {"name": "addim", "addim": {}}},
            "eval.samplers.0.sampler.0.addim.eta",
            "missing",
        ),
        ({"step": 4}, "eval.samplers.0.step: unknown key", "nearest known one is eval.samplers.0."),
        ({"guidance": "some"}, "eval.samplers.0", "expected none, searched or a section"),
        ({"guidance": {}}, "eval.samplers.0.guidance.0.weight", "missing; expected number"),
        (
            {"guidance": {"weight": 1.0, "interval": [3.0, 2.0]}},
            "eval.samplers.0.guidance.0",
            "interval [3.0, 2.0] is empty",
        ),
        ({"sampler": ["ddim", "ddim"]}, "samplers.0: few_ddim", "the name of an earlier row"),
        ({"name": "base"}, "samplers.0: base", "the name of one of evaluate's own rows"),
        ({"name": "student", "nfe": [4, 8]}, "samplers.0: student_4", "evaluate's own rows"),
        ({"name": "a/b"}, "eval.samplers.0.name: found 'a/b'", "pattern"),
    ],
)
def test_what_cannot_be_drawn_is_refused(keys, place, words):
    with refused(ParamsError, place, words):
        rows(entry(**keys))


def test_entries_of_one_name_are_refused():
    with refused(ParamsError, "samplers.1: few", "choose another name"):
        rows(entry(), entry(nfe=8))


def test_the_names_of_baselines_are_taken():
    assert {*TITLES} <= {*BUILT_IN}


@pytest.mark.parametrize(
    ("keys", "place", "words"),
    [
        (
            {"weights": 7},
            "eval.samplers.0.weights: found step 7",
            "a step of train.snapshots, None",
        ),
        (
            {"weights": {"kind": "power", "value": 0.1}},
            "eval.samplers.0.weights: found power 0.1",
            "expected one of train.emas",
        ),
        ({"weights": "absent"}, "eval.samplers.0.weights: found 'absent'", "which is no folder"),
        (
            {"guidance": [{"weight": 1.0, "negative": 7}]},
            "eval.samplers.0.guidance.0.negative: found step 7",
            "a step of train.snapshots",
        ),
        (
            {"guidance": [{"weight": 1.0, "interval": [12.0, 14.0]}]},
            "eval.samplers.0.guidance.0.interval: found [12.0, 14.0]",
            "expected an interval that overlaps the schedule's log-SNR",
        ),
    ],
)
def test_models_and_intervals_must_exist(keys, place, words):
    with refused(ParamsError, place, words):
        checks.check(tiny.params(eval={"samplers": [entry(**keys)]}))
