import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sid2core import config
from sid2core.conditioning import Condition
from sid2core.data.load.dataset import Dataset
from sid2core.metrics import statistics
from sid2core.metrics.evaluator import Evaluator
from sid2core.metrics.networks import registry
from sid2core.metrics.networks.protocol import LOGITS, POOL
from sid2core.metrics.reference import KEPT
from sid2core.metrics.statistics import Moments
from sid2core.pipeline import artifact
from sid2core.pipeline.artifact import ArtifactError
from stages import prepare, reference
from tests import tiny

PARAMS = config.read(Path(__file__).parents[2] / "params.yaml")
TINY = {"channels": [8], "feature_size": 6, "steps": 12, "batch_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project's root in which both stages have run, small."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare.main(tiny.params(data=PARAMS.data.model_dump()))
        reference.main(params())
    return folder


@pytest.fixture
def _inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def params():
    return PARAMS.model_copy(update={"reference": PARAMS.reference.model_copy(update=TINY)})


@pytest.mark.usefixtures("_inside")
def test_artifact_is_whole_and_reports_agree():
    made_from = artifact.load("prepare")
    made = artifact.load("reference", prepare=made_from)
    extractor = registry.own(made)
    assert made.metadata["extractor"] == "classifier"
    assert made.metadata["extractor_digest"] == extractor.digest
    assert made.metadata["feature_size"] == 6
    assert made.metadata["extractors"] == ["classifier"]
    moments, datasets = {}, {}
    for split in ("train", "eval"):
        dataset = datasets[split] = Dataset.open(made_from, split)
        features = extractor.features(dataset.images)
        accuracy = (features[LOGITS].argmax(axis=-1) == dataset.labels).mean()
        assert made.metadata[f"accuracy_{split}"] == pytest.approx(accuracy)
        found = moments[split] = Moments.load(made.path(f"classifier/{split}.npz"))
        assert found.n == len(dataset)
        assert found.provenance["split"] == split
        assert found.provenance["crop"] == "adm"
        np.testing.assert_allclose(
            found.mu, features[POOL].mean(axis=0, dtype=np.float64), rtol=1e-9
        )
        expected = np.cov(features[POOL].astype(np.float64), rowvar=False)
        np.testing.assert_allclose(found.sigma, expected, rtol=1e-7, atol=1e-12)
    metrics = json.loads(reference.METRICS.read_text())
    assert metrics == {
        "accuracy_eval_269": round(made.metadata["accuracy_eval"], 5),
        "accuracy_train_1528": round(made.metadata["accuracy_train"], 5),
        "fd_train_1528_eval_269": round(statistics.distance(*moments.values()), 5),
    }
    held_out = datasets["eval"]
    quality = Evaluator.load(made).quality(held_out.images, Condition(label=held_out.labels))
    assert quality.fd_eval == pytest.approx(0.0, abs=1e-9)
    assert quality.fd_train == pytest.approx(metrics["fd_train_1528_eval_269"], abs=1e-5)
    assert quality.agreement == pytest.approx(made.metadata["accuracy_eval"])
    kept = np.load(made.path("classifier/train_features.npy"))
    train_features = extractor.features(datasets["train"].images)[POOL]
    assert len(kept) == len(train_features) < KEPT, "all are kept of so few"
    np.testing.assert_allclose(kept, train_features, atol=1e-6)


@pytest.mark.usefixtures("_inside")
def test_curve_has_a_row_for_each_step():
    with reference.CURVE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 13)]
    assert set(rows[0]) == {"step", "loss", "accuracy"}
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)


@pytest.mark.usefixtures("_inside")
def test_a_second_run_gives_the_same_bytes():
    before = artifact.load("reference").digest
    reports = [path.read_bytes() for path in (reference.METRICS, reference.CURVE)]
    reference.main(params())
    assert artifact.load("reference").digest == before
    assert [path.read_bytes() for path in (reference.METRICS, reference.CURVE)] == reports


def test_without_prepare_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny.ROOT / "dvc.yaml", tmp_path)
    with pytest.raises(ArtifactError, match="dvc repro prepare"):
        reference.main(params())
