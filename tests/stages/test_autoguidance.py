"""Autoguidance by an earlier state of the model, from the search to the page."""

import json
import shutil

import pandas as pd
import pytest

from sid2core import config
from sid2core.pipeline import artifact
from stages import guidance_search, train
from tests import tiny
from tests.stages.dag import STAGES


@pytest.mark.slow
def test_a_snapshot_is_a_negative_in_every_stage(project):
    tiny.write(
        project,
        train={"snapshots": [10], "emas": [{"kind": "power", "value": 0.1}]},
        guidance_search={
            "negatives": [10],
            "averages": ["usual", {"kind": "power", "value": 0.1}],
            "samplers": ["ddim", {"name": "ddpm", "ddpm": {"logvar_fraction": 0.3}}],
            "steps": [2],
            "weights": [1.0],
            "intervals": [[-3.0, 5.0]],
        },
    )
    shutil.copy(tiny.ROOT / "dvc.yaml", project)
    for stage in STAGES[STAGES.index(train) :]:
        stage.main(config.read())
    grid = pd.read_csv("reports/guidance_search/grid.csv")
    assert set(grid["average"]) == {"usual", "power 0.1"}
    assert set(grid["negative"]) == {"unconditional", "step 10"}
    assert set(grid["sampler"]) == {"ddim", "ddpm logvar_fraction=0.3"}
    assert set(grid["steps"]) == {2}
    assert len(grid) == 12
    verdict = json.loads(artifact.load("guidance_search").path("best.json").read_text())
    guided = verdict["guided"]
    assert guided["negative"] == "step 10"
    teacher = artifact.load("distill").metadata["teacher"]
    assert teacher == {name: guided[name] for name in teacher}
    samplers = pd.read_csv("reports/evaluate/samplers.csv").set_index("sampler")
    assert samplers.loc["searched", "nfe"] == guided["nfe"]
    assert samplers.loc[["base", "searched"], "steps"].tolist() == [4, 2]
    over_training = pd.read_csv("reports/evaluate/trajectory.csv")
    assert over_training["curve"].tolist() == ["no_guidance", "best_guidance"]
    assert set(over_training["step"]) == {10}
    assert (over_training["low"] <= over_training["high"]).all()
    page = (project / "reports" / "index.html").read_text(encoding="utf-8")
    assert "away from step 10" in page
    assert "Quality over the training" in page


@pytest.mark.slow
def test_a_folder_of_a_worse_model_is_a_negative(project):
    worse = project / "worse"
    worse.mkdir()
    for name in ("model.safetensors", "config.json"):
        (worse / name).write_bytes((project / "artifacts" / "train" / name).read_bytes())
    search = {"negatives": [str(worse)], "weights": [1.0], "intervals": []}
    tiny.write(project, guidance_search=search)
    guidance_search.main(config.read())
    grid = pd.read_csv("reports/guidance_search/grid.csv")
    assert grid["negative"].tolist() == ["unconditional", str(worse)]
    # Pushed away from itself, the model draws what it draws without guidance.
    assert grid["excess"].abs().max() < 1e-6
    made = artifact.load("guidance_search")
    assert list(made.metadata["negatives"]) == [str(worse)]
