import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sid2core import config, rng
from sid2core.conditioning import Condition
from sid2core.config import build
from sid2core.data.load.dataset import Dataset
from sid2core.diffusion.guidance import NoGuidance
from sid2core.diffusion.samplers import Posterior
from sid2core.evaluation import drawing
from sid2core.evaluation.samplers_table import MODES
from sid2core.inference.generator import Generator
from sid2core.inference.model import Trained
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import artifact
from stages import evaluate
from tests import tiny
from tests.evaluation.samplers import count_images, stopped_after

SAMPLERS = ["base", "constant", "searched", "student_2"]


@pytest.fixture
def table(finished):
    return pd.read_csv(finished / "reports/evaluate/samplers.csv").set_index("sampler")


def test_every_sampler_is_a_row_and_so_are_real_images(table, finished):
    params = config.read(finished / "params.yaml")
    assert list(table.index) == [*SAMPLERS, "train_images"]
    steps, forward = params.sampling.steps, table.loc["base", "gflops_forward"]
    assert table.loc["base", "nfe"] == steps
    assert table.loc["constant", "nfe"] == 2 * steps
    assert table.loc["student_2", "nfe"] == table.loc["student_2", "steps"] == 2
    assert table.loc["constant", "guidance_weight"] == params.guidance.weight
    np.testing.assert_allclose(
        table.loc[SAMPLERS, "gflops_image"], table.loc[SAMPLERS, "nfe"] * forward
    )
    assert table.loc["train_images", ["steps", "nfe", "gflops_image"]].isna().all()
    assert (table["samples"] == 40).all()


def test_the_searched_guidance_is_the_searchs(table, finished):
    verdict = json.loads((finished / "artifacts/guidance_search/best.json").read_text())
    guided, row = verdict["guided"], table.loc["searched"]
    assert row["guidance_weight"] == guided["weight"] > 0
    for name in ("logsnr_min", "logsnr_max"):
        assert row[name] == guided[name] or (np.isnan(row[name]) and guided[name] is None)
    assert row["nfe"] == guided["nfe"]


def test_metrics_are_the_tables_numbers_by_name(table, finished):
    metrics = json.loads((finished / "reports/evaluate/metrics.json").read_text())
    assert list(metrics) == list(table.index)
    for name, found in metrics.items():
        expected = {
            "fd_eval_40": table.loc[name, "fd_eval"],
            "fd_train_40": table.loc[name, "fd_train"],
            "fd_eval_ratio_40": table.loc[name, "fd_eval_ratio"],
            "agreement_40": table.loc[name, "agreement"],
            **{f"{one}_40": table.loc[name, one] for one in MODES},
        }
        if name != "train_images":
            expected |= {one: table.loc[name, one] for one in ("nfe", "gflops_image")}
        assert found == pytest.approx(expected, abs=1e-5)


def test_kept_samples_and_grids_are_there(finished):
    made = artifact.load("evaluate", root=finished / "artifacts")
    assert made.metadata == {"samplers": SAMPLERS, "labels": "balanced"}
    grids = np.load(made.path("grids.npz"))
    assert sorted(grids) == SAMPLERS
    for name in SAMPLERS:
        kept = np.load(made.path(f"{name}.npz"))
        assert kept["images"].shape == (30, 8, 8, 1)
        assert kept["images"].dtype == np.uint8
        assert (kept["labels"] == np.arange(30) % 10).all()
        assert grids[name].shape == (10, 3, 8, 8, 1)


@pytest.mark.usefixtures("project")
def test_a_row_is_its_images_judged(table):
    """The student once more, by hand, all its images at once."""
    params, evaluator = config.read(), Evaluator.load(artifact.load("reference"))
    student = Trained.load(artifact.load("distill").folder / "student_2")
    method = student.method(Posterior(), NoGuidance(), 2, clip_x=build.clip_x(params.sampling))
    condition = Condition(label=np.arange(40, dtype=np.int32) % 10)
    generator = Generator(method, student.params, params.sampling.batch_size)
    images = generator.images(rng.key(params.seed, "evaluate"), np.arange(40), condition)
    assert (np.load("artifacts/evaluate/student_2.npz")["images"] == images[:30]).all()
    quality, row = evaluator.quality(images, condition), table.loc["student_2"]
    assert quality.fd_train == pytest.approx(row["fd_train"], abs=1e-6)
    assert quality.fd_eval == pytest.approx(row["fd_eval"], abs=1e-6)
    assert quality.agreement == row["agreement"]


@pytest.mark.usefixtures("project")
def test_real_images_are_nearer_than_those_of_a_model_hardly_trained(table):
    assert table["fd_train"].idxmin() == "train_images"
    real = Dataset.open(artifact.load("prepare"), "train")
    accuracy = artifact.load("reference").metadata["accuracy_train"]
    assert len(real) > 40
    assert table.loc["train_images", "agreement"] == pytest.approx(accuracy, abs=0.3)


def test_a_stopped_evaluation_goes_on_and_ends_with_the_same_bytes(project, monkeypatch, caplog):
    """Three chunks of real images, and of each of three samplers, whose grids have two.

    The guidance that the search found is the constant one, which is not drawn twice.
    """
    caplog.set_level(logging.INFO)
    expected = tiny.snapshot(project, "evaluate")
    with stopped_after(monkeypatch, 5):
        evaluate.main(config.read())
    assert tiny.snapshot(project, "evaluate") == expected, "the earlier result stays"
    made = count_images(monkeypatch)
    with stopped_after(monkeypatch, 18 - 5 + 2):  # while it measures
        evaluate.main(config.read())
    assert made == [8, *[16, 16, 8], *[16, 14] * 3]
    assert "resumed: 5 of 18 chunks are of an earlier run" in caplog.text
    made.clear()
    evaluate.main(config.read())
    assert made == []
    assert tiny.snapshot(project, "evaluate") == expected


@pytest.mark.slow
def test_further_samplers_are_rows_and_a_change_draws_only_new_ones(project, monkeypatch):
    """The second sampler's guidance costs twice a step; the first one is stopped half-way."""
    few = {"name": "few", "sampler": "ddim", "steps": 3}
    tiny.write(project, eval={"samplers": [few]})
    with stopped_after(monkeypatch, 13):
        evaluate.main(config.read())
    evaluate.main(config.read())
    first = pd.read_csv("reports/evaluate/samplers.csv").set_index("sampler")
    guided = {"name": "guided", "sampler": "heun", "nfe": 8, "guidance": {"weight": 0.5}}
    tiny.write(project, eval={"samplers": [few, guided]})
    made = count_images(monkeypatch)
    evaluate.main(config.read())
    assert made == [16, 16, 8]
    table = pd.read_csv("reports/evaluate/samplers.csv").set_index("sampler")
    assert list(table.index) == [*SAMPLERS, "few", "guided", "train_images"]
    assert table.loc[["few", "guided"], "nfe"].tolist() == [3, 6]
    assert table.loc["few", "fd_eval"] == first.loc["few", "fd_eval"]
    assert table.loc["guided", "guidance_weight"] == 0.5
    made_by = artifact.load("evaluate").metadata
    assert (made_by["samplers"], made_by["named"]) == (SAMPLERS, ["few", "guided"])
    assert not Path("artifacts/evaluate/few.npz").exists(), "samples are not kept"
    metrics = json.loads(Path("reports/evaluate/metrics.json").read_text())
    assert metrics["guided"]["nfe"] == 6


@pytest.mark.usefixtures("project")
def test_a_removed_student_is_not_evaluated(monkeypatch):
    """Students are those that the artifact names, not those a folder happens to hold."""
    distill = artifact.load("distill")
    inputs = {name: artifact.load(name) for name in distill.manifest["inputs"]}
    with artifact.create("distill", distill.manifest["params"], inputs) as draft:
        draft.path("student_9/model.safetensors").write_bytes(b"left behind")
        draft.metadata |= {"students": []}
    seen = []

    def stops(sets, *args):
        seen.extend(one.name for one in sets)
        raise KeyboardInterrupt

    monkeypatch.setattr(drawing, "draw_and_measure", stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(config.read())
    samplers = ["base", "constant", "searched"]
    assert seen == [*samplers, *(f"{name}.grid" for name in samplers), "train_images"]
