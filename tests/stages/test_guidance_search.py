import csv
import json
import logging
import shutil

import numpy as np
import pytest

from sid2core import config, rng
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.config import build
from sid2core.inference.generator import Generator
from sid2core.inference.guidance_search import chosen, settings
from sid2core.inference.model import Trained
from sid2core.metrics import uncertainty
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import artifact
from stages import guidance_search
from tests import tiny
from tests.evaluation.samplers import count_images, stopped_after

CLASSES = ConditionSpec.of_classes(10)


def every_setting(params):
    return settings(params.guidance_search, CLASSES, params.sampling)


def table(folder):
    with (folder / "reports/guidance_search/grid.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_setting_is_a_row(finished):
    rows = table(finished)
    expected = every_setting(tiny.params())
    assert [(float(row["weight"]), row["interval"]) for row in rows] == [
        (one.weight, one.interval) for one in expected
    ]
    steps = tiny.params().sampling.steps
    assert [int(row["nfe"]) for row in rows[:3]] == [steps, 2 * steps, 2 * steps]
    assert len(rows) > 3
    assert all(steps < int(row["nfe"]) < 2 * steps for row in rows[3:])
    assert {row["samples"] for row in rows} <= {"12", "24"}


def test_who_left_was_worse_and_who_stayed_was_not(finished):
    made = artifact.load("guidance_search", root=finished / "artifacts")
    verdict = json.loads(made.path("best.json").read_text())
    rows = table(finished)
    assert any(row["kept"] == "True" for row in rows)
    for row in rows:
        assert (float(row["excess_low"]) <= 0) == (row["kept"] == "True")
    assert verdict["images"] == sum(int(row["samples"]) for row in rows)
    assert chosen(verdict).guided in every_setting(tiny.params())[1:]
    metrics = json.loads((finished / "reports/guidance_search/metrics.json").read_text())
    best, guided = verdict["best"], verdict["guided"]
    assert metrics["weight"] == best["weight"]
    assert metrics[f"fd_train_{best['samples']}"] == round(best["fd_train"], 5)
    assert metrics["guided_weight"] == guided["weight"]


@pytest.mark.usefixtures("project")
def test_a_row_is_its_images_judged(finished):
    """The last setting once more, by hand: its images, their distance and its interval."""
    params = config.read()
    reference, train = (artifact.load(name) for name in ("reference", "train"))
    one, row = every_setting(params)[-1], table(finished)[-1]
    count = int(row["samples"])
    model, evaluator = Trained.load(train.folder), Evaluator.load(reference)
    sampling = params.sampling
    sampler, clip_x = build.sampler(sampling), build.clip_x(sampling)
    method = model.method(sampler, one.guidance, sampling.steps, clip_x=clip_x)
    generator = Generator(method, model.params, sampling.batch_size)
    stream = rng.key(params.seed, "guidance_search")
    condition = Condition(label=np.arange(count, dtype=np.int32) % 10)
    images = generator.images(stream, np.arange(count), condition)
    quality = evaluator.quality(images, condition)
    features = evaluator.features(images)["classifier.pool"]
    strata = condition.label if count >= 20 else None
    (found,) = uncertainty.intervals(features, [evaluator.primary.moments["train"]], strata=strata)
    assert found.distance == pytest.approx(quality.fd_train, rel=1e-6)
    assert float(row["fd_train"]) == pytest.approx(found.distance, abs=1e-6)
    assert float(row["fd_train_high"]) == pytest.approx(found.high, abs=1e-6)
    assert float(row["agreement"]) == pytest.approx(quality.agreement, abs=1e-6)


def test_a_stopped_search_goes_on_and_ends_with_the_same_bytes(project, monkeypatch, caplog):
    """Five settings of two chunks, each set measured: 10 + 5 files."""
    caplog.set_level(logging.INFO)
    tiny.write(project, sampling={"batch_size": 2}, guidance_search={"strategy": "grid"})
    guidance_search.main(config.read())
    expected = tiny.snapshot(project, "guidance_search")
    shutil.rmtree(".sid2")
    made, done = count_images(monkeypatch), 0
    for files in (1, 5, 13):
        made.clear()
        with stopped_after(monkeypatch, files - done):
            guidance_search.main(config.read())
        assert made == ([12] * 10)[done : files + 1], "the last one is not written"
        assert tiny.snapshot(project, "guidance_search") == expected, "the earlier result stays"
        done = files
    made.clear()
    guidance_search.main(config.read())
    assert made == []
    for chunks in (1, 5, 10):
        assert f"resumed: {chunks} of 10 chunks" in caplog.text
    assert tiny.snapshot(project, "guidance_search") == expected


@pytest.mark.usefixtures("project")
def test_a_budget_ends_the_race(project):
    tiny.write(project, guidance_search={"budget": 61, "tolerance": 1e-9})
    guidance_search.main(config.read())
    assert {row["samples"] for row in table(project)} == {"12"}


def test_one_more_weight_draws_only_its_images(project, monkeypatch):
    grid = {"strategy": "grid", "weights": [0.5, 2.0]}
    tiny.write(project, guidance_search=grid)
    guidance_search.main(config.read())
    made = count_images(monkeypatch)
    tiny.write(project, guidance_search=grid | {"weights": [0.5, 1.0, 2.0]})
    guidance_search.main(config.read())
    assert sum(made) == 2 * 24, "on the whole range and on one interval"
