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
from sid2core.inference.guidance_search import chosen, grid
from sid2core.inference.model import Trained
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import artifact
from stages import guidance_search
from tests import tiny
from tests.evaluation.samplers import count_images, stopped_after

CLASSES = ConditionSpec.of_classes(10)


def table(folder):
    with (folder / "reports/guidance_search/grid.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_cell_is_a_row(finished):
    rows = table(finished)
    cells = grid(tiny.params().guidance_search, CLASSES)
    assert [(float(row["weight"]), row["interval"]) for row in rows] == [
        (cell.weight, cell.interval) for cell in cells
    ]
    steps = tiny.params().sampling.steps
    assert [int(row["nfe"]) for row in rows[:3]] == [steps, 2 * steps, 2 * steps]
    assert len(rows) > 3
    assert all(steps < int(row["nfe"]) < 2 * steps for row in rows[3:])
    assert {(row["repeats"], row["samples"]) for row in rows} == {("2", "24")}


def test_the_best_is_the_nearest_to_the_train_split(finished):
    made = artifact.load("guidance_search", root=finished / "artifacts")
    verdict = json.loads(made.path("best.json").read_text())
    distances = sorted(float(row["fd_train_mean"]) for row in table(finished))
    assert verdict["best"]["fd_train_mean"] == distances[0]
    assert verdict["runner_up"]["fd_train_mean"] == distances[1]
    guided = min(float(row["fd_train_mean"]) for row in table(finished) if float(row["weight"]))
    assert verdict["guided"]["fd_train_mean"] == guided
    assert chosen(verdict) in grid(tiny.params().guidance_search, CLASSES)[1:]
    metrics = json.loads((finished / "reports/guidance_search/metrics.json").read_text())
    assert metrics == {
        "weight": verdict["best"]["weight"],
        "logsnr_min": verdict["best"]["logsnr_min"],
        "logsnr_max": verdict["best"]["logsnr_max"],
        "fd_train_24": round(distances[0], 5),
        "fd_train_24_runner_up": round(distances[1], 5),
        "fd_train_24_noise": round(verdict["noise"], 5),
        "guided_weight": verdict["guided"]["weight"],
        "fd_train_24_guided": round(guided, 5),
    }


@pytest.mark.usefixtures("project")
def test_a_row_is_its_images_judged(finished):
    """The last cell once more, by hand: two seeds, the same labels, the mean of their scores."""
    params = config.read()
    reference, train = (artifact.load(name) for name in ("reference", "train"))
    cell, row = grid(params.guidance_search, CLASSES)[-1], table(finished)[-1]
    model, evaluator = Trained.load(train.folder), Evaluator.load(reference)
    sampling = params.sampling
    sampler, clip_x = build.sampler(sampling), build.clip_x(sampling)
    method = model.method(sampler, cell.guidance, sampling.steps, clip_x=clip_x)
    generator = Generator(method, model.params, sampling.batch_size)
    stream = rng.key(params.seed, "guidance_search")
    condition = Condition(label=np.arange(24, dtype=np.int32) % 10)
    scores = [
        evaluator.quality(generator.images(stream, np.arange(24) + first, condition), condition)
        for first in (0, 24)
    ]
    distances = [one.fd_train for one in scores]
    assert float(row["fd_train_mean"]) == pytest.approx(np.mean(distances), abs=1e-6)
    assert float(row["fd_train_std"]) == pytest.approx(np.std(distances, ddof=1), abs=1e-6)
    assert float(row["agreement"]) == pytest.approx(
        np.mean([one.agreement for one in scores]), abs=1e-6
    )


@pytest.mark.parametrize("after", [1, 5, 13, 25])
def test_a_stopped_search_goes_on_and_ends_with_the_same_bytes(project, monkeypatch, caplog, after):
    """Five cells of two repeats of two chunks, each repeat measured: 20 + 10 files."""
    caplog.set_level(logging.INFO)
    tiny.write(project, sampling={"batch_size": 2})
    guidance_search.main(config.read())
    expected = tiny.snapshot(project, "guidance_search")
    shutil.rmtree(".sid2")
    with stopped_after(monkeypatch, after):
        guidance_search.main(config.read())
    assert tiny.snapshot(project, "guidance_search") == expected, "the earlier result stays"
    made = count_images(monkeypatch)
    guidance_search.main(config.read())
    assert made == ([16, 8] * 10)[after:]
    assert f"resumed: {min(after, 20)} of 20 chunks" in caplog.text
    assert tiny.snapshot(project, "guidance_search") == expected
