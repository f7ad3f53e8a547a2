"""The model that is trained to be a negative: not at all, and from its training to the page."""

import json
import shutil

import pandas as pd
import pytest

from sid2core import config
from sid2core.inference.model import Trained
from sid2core.pipeline import artifact
from stages import train_negative
from tests import tiny
from tests.stages.dag import STAGES


def test_without_steps_it_writes_an_artifact_without_files(finished):
    made = artifact.load("train_negative", root=finished / "artifacts")
    assert made.metadata == {"steps": 0}
    assert not made.manifest["files"]
    assert not made.manifest["params"], "so no change of the model runs later stages again"
    reports = finished / "reports" / "train_negative"
    assert json.loads((reports / "metrics.json").read_text()) == {"steps": 0}
    assert pd.read_csv(reports / "curve.csv").empty


@pytest.mark.slow
def test_a_smaller_model_is_the_negative_in_every_stage(project, caplog):
    tiny.write(
        project,
        train_negative={"steps": 20, "model": {"channels": [8, 8], "emb_channels": 8}},
        guidance_search={"negatives": ["train_negative"], "weights": [1.0], "intervals": []},
    )
    shutil.copy(tiny.ROOT / "dvc.yaml", project)
    for stage in STAGES[STAGES.index(train_negative) :]:
        stage.main(config.read())
    assert "nothing uses the model" not in caplog.text
    made = artifact.load("train_negative")
    small, base = (Trained.load(project / "artifacts" / name) for name in (made.stage, "train"))
    assert made.metadata["steps"] == 20
    assert small.shape.channels == (8, 8)
    assert small.shape.condition == base.shape.condition
    assert json.loads((train_negative.REPORTS / "metrics.json").read_text())["steps"] == 20
    grid = pd.read_csv("reports/guidance_search/grid.csv")
    assert grid["negative"].tolist() == ["unconditional", "train_negative"]
    assert artifact.load("guidance_search").metadata == {}, "DVC watches the negative"
    assert artifact.load("distill").metadata["teacher"]["negative"] == "train_negative"
    assert "searched" in set(pd.read_csv("reports/evaluate/samplers.csv")["sampler"])
    plan = json.loads((project / "reports/plan/metrics.json").read_text())
    assert plan["negative_parameters"] == sum(one.size for one in small.params.values())
    page = (project / "reports" / "index.html").read_text(encoding="utf-8")
    assert "away from train_negative" in page


@pytest.mark.usefixtures("project")
def test_nothing_of_the_training_is_read_before_the_parameters_are_checked(project):
    tiny.write(project, train_negative={"steps": 20, "model": {"channels": [8]}})
    with pytest.raises(config.ParamsError, match="train_negative.model: blocks has 2 entries"):
        train_negative.main(config.read())
