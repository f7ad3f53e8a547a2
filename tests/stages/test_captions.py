"""Captioned data without classes, from the source to the page and to prompts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sid2core
from sid2core import config
from sid2core.cli import main
from sid2core.metrics import image_sets
from sid2core.pipeline import artifact
from tests import captioned
from tests.stages.dag import STAGES
from tests.text import tiny_t5


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["learned", "t5", "t5, not stored"])
def test_captions_pass_all_stages(tmp_path, monkeypatch, encoder):
    section = captioned.text()
    if encoder != "learned":
        section = captioned.t5(tiny_t5.write(tmp_path / "t5"), encoder == "t5")
    negative = {"guidance": {"negative_prompt": "a grey square"}} if encoder == "learned" else {}
    asked = {"eval": {"prompts": ["a {red|blue} square", "a <b> square --n red --l 2"]}}
    optimiser = captioned.NET["train"]["optimiser"] | {"warmup_steps": 5, "learning_rate": 0.02}
    quick = {"train": {"steps": 60, "optimiser": optimiser}}  # so that a prompt changes bytes
    monkeypatch.chdir(captioned.write(tmp_path, text=section, **negative, **asked, **quick))
    for stage in STAGES:
        stage.main(config.read())

    table = pd.read_csv("reports/evaluate/samplers.csv")
    assert list(table["sampler"]) == ["base", "constant", "searched", "student_2", "train_images"]
    assert table["agreement"].isna().all()
    terms = pd.read_csv("reports/plan/terms.csv")
    assert terms["term"].str.startswith("text: ").sum() == 5
    made = artifact.load("evaluate")
    shown = made.metadata["grid"]
    assert len(shown["captions"]) == 8
    assert np.load(made.path("grids.npz"))["base"].shape == (8, 3, 8, 8, 3)
    with np.load(made.path("prompts.npz")) as grids:
        assert {name: grids[name].shape for name in grids} == {
            name: (3, 3, 8, 8, 3) for name in ("searched", "student_2")
        }
    scores = pd.read_csv("reports/evaluate/scores.csv")
    of_captions = scores[scores["extractor"] == "captions"]
    assert set(of_captions["sampler"]) == set(table["sampler"])
    assert of_captions["value"].between(0, 1).all()
    assert any(
        name.startswith("retrieval_eval")
        for name in json.loads(Path("reports/reference/metrics.json").read_text())
    )
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert shown["captions"][0] in page
    assert "a &lt;b&gt; square" in page
    assert "class agreement" not in page.lower()

    for folder in ("artifacts/train", "artifacts/distill/student_2"):
        model = sid2core.load_model(folder)
        red, blue = (model.sample(2, prompt=f"a {one} square", steps=2) for one in ("red", "blue"))
        assert red.shape == (2, 8, 8, 3)
        assert (red != blue).any()
    command = ["sample", "--prompt", "a red square", "<b>", "--count", "3"]
    assert main.main([*command, "--steps", "2", "--out", "drawn.parquet"]) == 0
    drawn = np.concatenate(list(image_sets.opened("drawn.parquet").chunks(4)))
    assert drawn.shape == (6, 8, 8, 3)
    written = json.loads(Path("artifacts/distill/student_2/config.json").read_text())
    assert (
        written["condition"]
        == json.loads(Path("artifacts/train/config.json").read_text())["condition"]
    ), "a negative prompt does not become the null of a student"
