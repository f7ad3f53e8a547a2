"""What a finished `make repro` on the embedded digits must have reached (`make pipeline-test`)."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVC

from sid2core.data.load.dataset import Dataset
from sid2core.pipeline import artifact
from tests.test_dag import DAG, outputs
from tests.tiny import ROOT

pytestmark = pytest.mark.pipeline


@pytest.fixture(autouse=True)
def _in_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def flat(images):
    return images.reshape(len(images), -1) / 255.0


@pytest.fixture(scope="module")
def classifier():
    """An independent classifier, trained on the train split alone."""
    prepare = artifact.load("prepare", root=ROOT / artifact.ROOT)
    train, held_out = Dataset.open(prepare, "train"), Dataset.open(prepare, "eval")
    svc = SVC(kernel="rbf", C=10.0).fit(flat(train.images), train.labels)
    assert svc.score(flat(held_out.images), held_out.labels) >= 0.97
    return svc


def agreement(classifier, sampler):
    with np.load(artifact.load("evaluate").path(f"{sampler}.npz")) as file:
        assert file["images"].dtype == np.uint8
        assert len(file["images"]) == 1000
        return (classifier.predict(flat(file["images"])) == file["labels"]).mean()


def table():
    return pd.read_csv("reports/evaluate/samplers.csv").set_index("sampler")


@pytest.mark.parametrize(("sampler", "least"), [("searched", 0.97), ("student_8", 0.95)])
def test_an_independent_classifier_sees_the_class_that_was_asked_for(classifier, sampler, least):
    assert agreement(classifier, sampler) >= least


def test_the_student_is_within_twice_its_teacher():
    rows = table()
    assert rows.loc["student_8", "fd_eval"] <= 2 * rows.loc["searched", "fd_eval"]


def test_the_best_base_sampler_is_within_three_times_real_images():
    rows = table()
    base = rows.loc[["base", "constant", "searched"], "fd_eval"].min()
    assert base <= 3 * rows.loc["train_images", "fd_eval"]
    assert rows["samples"].nunique() == 1


def test_the_page_shows_both_figures():
    page, rows = (ROOT / "reports/index.html").read_text(encoding="utf-8"), table()
    for value in (
        rows.loc[["base", "constant", "searched"], "fd_eval"].min(),
        rows.loc["train_images", "fd_eval"],
    ):
        assert f"{value:.3f}" in page


def test_metrics_are_the_table():
    metrics = json.loads((ROOT / "reports/evaluate/metrics.json").read_text(encoding="utf-8"))
    rows = table()
    assert set(metrics) == set(rows.index)
    for name, values in metrics.items():
        assert values["fd_eval_1k"] == pytest.approx(rows.loc[name, "fd_eval"], abs=1e-5)


def test_all_that_the_stages_report_is_an_output():
    """What is none would be lost by `dvc exp run --temp` and the queue."""
    made = {one for stage in DAG["stages"].values() for one in outputs(stage)}
    written = {path.relative_to(ROOT) for path in (ROOT / "reports").rglob("*") if path.is_file()}
    kept = {
        path.as_posix()
        for path in written
        if path.name not in {"speed.csv", ".gitignore"} and "samples" not in path.parts
    }
    assert "reports/prepare/source.json" in kept
    assert kept <= made
