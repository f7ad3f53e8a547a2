import json
from dataclasses import asdict

import pytest

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config.training import Ema
from sid2core.diffusion.guidance import (
    AutoGuidance,
    ConstantGuidance,
    IntervalGuidance,
    NoGuidance,
)
from sid2core.inference import guidance_search
from sid2core.inference.guidance_search import Found, Setting
from sid2core.inference.search_table import Score
from tests import tiny

CLASSES = ConditionSpec.of_classes(10)
POWER = {"kind": "power", "value": 0.1}


SAMPLER = {"sampler": "ddpm logvar_fraction=0.3", "steps": 4}
"""As ``sampling`` has it."""


def settings(spec=CLASSES, **changes):
    params = tiny.params(guidance_search=changes)
    return guidance_search.settings(params.guidance_search, spec, params.sampling)


def score(setting, fd, *, kept=True, samples=100, excess=None, nfe=None):
    nfe = nfe or (8 if setting.weight == 0 else 16)
    excess = fd - 1.0 if excess is None else excess
    return Score(
        setting.average,
        setting.negative,
        setting.sampler or SAMPLER["sampler"],
        setting.steps or SAMPLER["steps"],
        setting.weight,
        setting.logsnr_min,
        setting.logsnr_max,
        setting.interval,
        *(fd, fd - 0.1, fd + 0.1, excess, excess - 0.1, excess + 0.1),
        kept,
        samples,
        0.5,
        nfe,
        "fd",
    )


def verdict(*scores):
    return json.loads(json.dumps(guidance_search.verdict(scores, 1000, 0.9)))


def test_all_combinations_are_settings_and_no_guidance_once():
    assert settings(weights=[0.5, 2.0], intervals=[[-3.0, 5.0]]) == [
        Setting(0.0, **SAMPLER),
        Setting(0.5, **SAMPLER),
        Setting(2.0, **SAMPLER),
        Setting(0.5, -3.0, 5.0, **SAMPLER),
        Setting(2.0, -3.0, 5.0, **SAMPLER),
    ]


def test_negatives_and_averages_multiply_them():
    found = settings(
        weights=[0.5],
        intervals=[],
        negatives=["unconditional", 400, "worse"],
        averages=["usual", POWER],
    )
    expected = [
        Setting(weight, None, None, negative, average, **SAMPLER)
        for average in ("usual", "power 0.1")
        for weight, negative in (
            *((0.0, "unconditional"), (0.5, "unconditional"), (0.5, "step 400"), (0.5, "worse")),
        )
    ]
    assert found == expected
    assert [one.ema for one in expected[::4]] == [None, Ema(kind="power", value=0.1)]


@pytest.mark.parametrize("spec", [CLASSES, ConditionSpec()])
@pytest.mark.parametrize(
    "changes", [{}, {"negatives": ["unconditional", 4], "steps": [2, 8], "intervals": []}]
)
def test_settings_are_counted_before_the_training(spec, changes):
    search = tiny.params(guidance_search=changes).guidance_search
    assert search.count(unconditional=not spec) == len(settings(spec, **changes))


def test_without_conditions_only_a_worse_model_is_a_negative():
    assert settings(ConditionSpec()) == [Setting(0.0, **SAMPLER)]
    found = settings(ConditionSpec(), weights=[1.0], intervals=[], negatives=["unconditional", 400])
    assert found == [Setting(0.0, **SAMPLER), Setting(1.0, negative="step 400", **SAMPLER)]


def test_samplers_and_steps_multiply_them():
    ddpm = {"name": "ddpm", "ddpm": {"logvar_fraction": 0.0}}
    found = settings(weights=[1.0], intervals=[], samplers=["heun", ddpm], steps=[2, 8])
    assert [(one.sampler, one.steps, one.weight) for one in found] == [
        (sampler, steps, weight)
        for sampler in ("heun", "ddpm logvar_fraction=0.0")
        for steps in (2, 8)
        for weight in (0.0, 1.0)
    ]


@pytest.mark.parametrize(
    "section",
    [
        {"name": "ddim"},
        {"name": "ddpm", "ddpm": {"logvar_fraction": 0.3}},
        {"name": "addim", "addim": {"eta": 0.05}},
    ],
)
def test_a_sampler_survives_its_words(section):
    sampler = config.Sampler.model_validate(section)
    assert guidance_search.sampler_of(guidance_search.described(sampler)) == sampler


def test_words_of_a_plugin_s_sampler_may_have_spaces(monkeypatch):
    class Own(config.Section):
        text: str
        numbers: list[int]

    monkeypatch.setattr(config.SAMPLERS, "_kinds", dict(config.SAMPLERS._kinds))
    config.SAMPLERS.register("own", Own, dict)
    values = {"text": "a b=c \\ d", "numbers": [1, 2]}
    sampler = config.Sampler.model_validate({"name": "own", "own": values})
    assert guidance_search.sampler_of(guidance_search.described(sampler)) == sampler


@pytest.mark.parametrize(
    ("setting", "guidance", "words"),
    [
        (Setting(0.0), NoGuidance(), "whole range"),
        (Setting(0.0, -3.0, 5.0), NoGuidance(), "(-3, 5)"),
        (Setting(1.5), ConstantGuidance(1.5), "whole range"),
        (Setting(1.5, -3.0, 5.5), IntervalGuidance(1.5, -3.0, 5.5), "(-3, 5.5)"),
        (Setting(1.5, negative="step 400"), AutoGuidance(1.5), "whole range"),
        (Setting(1.5, 0.0, 5.0, "worse"), AutoGuidance(1.5, 0.0, 5.0), "(0, 5)"),
    ],
)
def test_a_setting_is_the_guidance_it_names(setting, guidance, words):
    assert setting.guidance == guidance
    assert setting.interval == words


def test_the_cheapest_of_those_that_cannot_be_distinguished_is_chosen():
    found = verdict(score(Setting(1.0), 1.0), score(Setting(0.0), 1.05), score(Setting(2.0), 1.01))
    assert found["best"]["weight"] == 0.0
    assert [one["weight"] for one in found["kept"]] == [1.0, 2.0, 0.0]
    assert found["guided"]["weight"] == 1.0
    assert guidance_search.chosen(found) == Found(Setting(0.0, **SAMPLER), Setting(1.0, **SAMPLER))


def test_of_samplers_that_cannot_be_distinguished_the_one_with_fewest_evaluations_is_chosen():
    few = Setting(1.0, sampler="dpm_solver", steps=8)
    found = verdict(score(Setting(1.0), 1.0, nfe=64), score(few, 1.04, nfe=16))
    assert guidance_search.chosen(found) == Found(few, few)
    of_equals = verdict(score(Setting(1.0), 1.0, nfe=16), score(few, 1.04, nfe=16))
    assert guidance_search.chosen(of_equals).best == Setting(1.0, **SAMPLER)


def test_a_worse_setting_is_not_chosen_for_its_cost():
    found = verdict(score(Setting(1.0), 1.0), score(Setting(0.0), 3.0, kept=False))
    assert found["best"] == found["guided"]
    assert found["best"]["weight"] == 1.0


@pytest.mark.parametrize(
    ("best", "guided", "shown"),
    [
        (Setting(0.0, **SAMPLER), Setting(1.0, **SAMPLER), False),
        (Setting(1.0, **SAMPLER), Setting(1.0, **SAMPLER), False),
        (Setting(0.0, sampler="heun", steps=4), Setting(1.0, **SAMPLER), True),
        (Setting(0.0, average="power 0.1", **SAMPLER), Setting(1.0, **SAMPLER), True),
        (Setting(0.0, **(SAMPLER | {"steps": 8})), Setting(0.0, **(SAMPLER | {"steps": 8})), True),
    ],
)
def test_a_winner_that_no_other_sampler_is_has_a_row_of_its_own(best, guided, shown):
    further = Found(best, guided).further(tiny.params().sampling)
    assert further == (best if shown else None)


def test_students_learn_from_the_best_setting_or_the_best_with_guidance():
    best, guided = Setting(0.0, **SAMPLER), Setting(1.0, **SAMPLER)
    found = Found(best, guided)
    assert (found.teacher("guided"), found.teacher("best")) == (guided, best)


def test_the_guidance_that_left_last_is_the_best_guidance():
    found = verdict(
        score(Setting(0.0), 1.0, samples=400),
        score(Setting(1.0), 1.2, kept=False, samples=100),
        score(Setting(2.0), 1.5, kept=False, samples=200),
    )
    assert guidance_search.chosen(found).guided == Setting(2.0, **SAMPLER)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(1.0, **SAMPLER),
        Setting(1.0, -3.0, 5.0, **SAMPLER),
        Setting(2.0, None, None, "step 400", "power 0.1", "addim eta=0.1", 8),
    ],
)
def test_what_is_chosen_survives_the_file(setting):
    assert guidance_search.chosen(verdict(score(setting, 1.0))) == Found(setting, setting)


def test_one_setting_has_no_guidance():
    found = verdict(score(Setting(0.0), 2.0))
    assert found["guided"] is None
    assert guidance_search.chosen(found).guided == Setting(0.0, **SAMPLER)
    assert guidance_search.metrics(found) == {
        "average": "usual",
        "negative": "unconditional",
        **SAMPLER,
        "weight": 0.0,
        "logsnr_min": None,
        "logsnr_max": None,
        "nfe": 8,
        "fd_train_100": 2.0,
        "fd_train_100_low": 1.9,
        "fd_train_100_high": 2.1,
        "kept": 1,
        "images": 1000,
    }


def test_metrics_name_the_complete_settings():
    """Whoever compares runs sees which average, negative, sampler and steps changed."""
    best = Setting(0.0, average="power 0.1", sampler="heun", steps=8)
    guided = Setting(2.0, 0.0, 5.0, "step 400", "usual", "addim eta=0.1", 16)
    found = guidance_search.metrics(
        verdict(score(best, 1.0, nfe=15), score(guided, 1.2, kept=False, nfe=30))
    )
    for setting, prefix, nfe in ((best, "", 15), (guided, "guided_", 30)):
        expected = asdict(setting) | {"nfe": nfe}
        assert {name: found[f"{prefix}{name}"] for name in expected} == expected
