"""Data without classes or captions, from the source to the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.pipeline import artifact
from tests import tiny
from tests.stages.dag import STAGES


@pytest.mark.slow
def test_unconditional_data_pass_all_stages(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    source = tiny.source("arrays", path=str(tmp_path / "images.npy"), image_size=8, channels=1)
    tiny.write(tmp_path, data=source, model=tiny.ONE_BLOCK)
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny.ROOT / "dvc.yaml", tmp_path)
    for stage in STAGES:
        stage.main(config.read())

    verdict = json.loads(artifact.load("guidance_search").path("best.json").read_text())
    assert verdict["best"]["weight"] == 0.0
    assert verdict["guided"] is None
    assert len(pd.read_csv("reports/guidance_search/grid.csv")) == 1

    table = pd.read_csv("reports/evaluate/samplers.csv")
    assert list(table["sampler"]) == ["base", "student_2", "train_images"]
    assert table["agreement"].isna().all()
    for stage in ("distill", "evaluate"):
        metrics = json.loads((tmp_path / "reports" / stage / "metrics.json").read_text())
        assert not [name for one in metrics.values() for name in one if "agreement" in name]

    page = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert "there is no guidance to search" in page
    assert "class agreement" not in page.lower()
    assert "network that learnt from its train split without labels" in page
    (metric,) = json.loads(Path("reports/reference/metrics.json").read_text())
    assert metric.startswith("fd_train_"), "no accuracy"

    made = artifact.load("evaluate")
    assert np.load(made.path("grids.npz"))["base"].shape == (1, 3, 8, 8, 1)
    assert (np.load(made.path("base.npz"))["labels"] == 0).all()
