"""Clips whose first frames are given, from the source to the page and to files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.cli import main
from sid2core.evaluation.clips import clip_table
from sid2core.pipeline import artifact
from sid2core.report.animations import HOLD, MILLISECONDS
from tests import tiny
from tests.report.test_clips import playing
from tests.report.test_page import Document
from tests.stages.dag import STAGES

FRAMES, GIVEN, SIZE = 5, 2, 16


def project(folder, given, stored):
    """A folder with the parameters of a run on moving digits, of so many stored frames.

    With given frames guidance pushes away from a snapshot, else from the null condition.
    """
    keys = {"count": 80, "frames": stored, "digits": 1, "classes": "motion", "image_size": SIZE}
    data = tiny.source("moving_digits", **keys) | {"given_frames": given}
    model = tiny.ONE_BLOCK | {"patch_size": 4}
    loader = {"clip_frames": None if stored == FRAMES else FRAMES}
    worse = {"train": {"snapshots": [10]}, "guidance_search": {"negatives": [10]}} if given else {}
    tiny.write(folder, data=data, model=model, loader=loader, **worse)
    shutil.copy(tiny.ROOT / "dvc.yaml", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("given", "stored"), [(0, FRAMES), (GIVEN, FRAMES + 2)])
def test_clips_pass_all_stages(tmp_path, monkeypatch, given, stored):
    monkeypatch.chdir(project(tmp_path, given, stored))
    for stage in STAGES:
        stage.main(config.read())

    made = artifact.load("evaluate")
    shape = (FRAMES, SIZE, SIZE, 1)
    with np.load(made.path("base.npz")) as kept:
        assert kept["images"].shape == (30, *shape)
    with np.load(made.path(clip_table.CLIPS)) as arrays:
        found = dict(arrays)
    real, count = found["real"], len(found["real"])
    assert (real.shape, int(found["given_frames"])) == ((count, *shape), given)
    for name in ("searched", "student_2"):
        assert found[name].shape == (count, 3, *shape)
        assert (found[name][:, :, :given] == real[:, None, :given]).all()
        assert (found[name][:, :, given:] != real[:, None, given:]).any()
    assert (made.folder / clip_table.ERROR).is_file() is bool(given)
    table = pd.read_csv("reports/evaluate/samplers.csv")
    samplers = ["base", "constant", "searched", "student_2"]
    assert list(table["sampler"])[:4] == samplers
    baselines = {"copy_last"} if given else set()
    assert baselines <= set(table["sampler"])
    negative = "step 10" if given else "unconditional"
    guided = json.loads(artifact.load("guidance_search").path("best.json").read_text())["guided"]
    assert guided["negative"] == negative
    assert artifact.load("distill").metadata["teacher"]["negative"] == negative

    document = Document(Path("reports/index.html").read_text(encoding="utf-8"))
    words = document.words("clips")
    assert f"{min(6, count)} of {count} clips are shown" in words or count <= 6
    moving = [one["src"] for one, _ in document.all("img") if one.get("class") == "moving"]
    assert len(moving) == min(6, count)
    assert sum(playing(moving[0])[1]) == (FRAMES - 1) * MILLISECONDS + HOLD
    head = document.words("head")
    assert f"clips of {FRAMES} frames of {SIZE} × {SIZE} pixels in 4 classes" in head
    if given:
        assert f"the first {given} of {FRAMES} frames, which are outlined" in words
        assert "copy of the last given frame" in words
        assert "copy of the last given frame" in document.words("samplers")
        assert "real training clips" in document.words("samplers")
        assert "away from step 10" in document.words("guidance")
    else:
        assert "no frame is given" in words

    assert main.main(["samples", "searched", "--out", "played", "--format", "frames"]) == 0
    assert len(list(Path("played").iterdir())) == 30
    assert len(list(Path("played").glob("00000-*/*.png"))) == FRAMES
