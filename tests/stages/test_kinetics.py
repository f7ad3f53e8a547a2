"""The preset kinetics600 with toy widths, on synthetic videos in the layout of Kinetics."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from sid2core import config
from sid2core.config import presets, yaml_edit
from sid2core.pipeline import artifact
from tests import tiny
from tests.data import videos
from tests.stages.dag import STAGES

VIDEOS, GIVEN, SHAPE = {"train": 30, "val": 10}, 5, (16, 16, 16, 3)
TOY = {
    **{name: tiny.SECTIONS[name] for name in ("reference", "train", "distill", "eval", "runtime")},
    "model": tiny.SECTIONS["model"] | tiny.ONE_BLOCK | {"patch_size": 4},
    "sampling": {"steps": 4, "batch_size": 16},
    "guidance_search": {"weights": [1.0], "intervals": [[0.0, 5.0]], "samples": 24},
}


def supplied(folder):
    """Videos of 20 frames with a brightness that grows, at a pace of their own, and CSV files."""
    draws = np.random.default_rng(0)
    for split, count in VIDEOS.items():
        (folder / split).mkdir(parents=True)
        rows = []
        for index in range(count):
            pace, colour = draws.uniform(2, 10), draws.uniform(0.2, 1, (1, 1, 1, 3))
            values = np.minimum(255, pace * np.arange(20))[:, None, None, None] * colour
            frames = np.broadcast_to(values, (20, 24, 32, 3)).astype(np.uint8)
            name = f"{split}{index:08d}"
            path = folder / split / f"{name}_{index:06d}_{index + 10:06d}.mp4"
            path.write_bytes(videos.encoded(list(frames)))
            rows.append(("dancing" if index % 2 else "diving", name, index, index + 10, split))
        with (folder / f"{split}.csv").open("w", newline="") as file:
            head = ("label", "youtube_id", "time_start", "time_end", "split")
            csv.writer(file).writerows([head, *rows])


@pytest.mark.slow
def test_the_preset_passes_all_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny.ROOT / "dvc.yaml", tmp_path)
    preset = presets.read("kinetics600", tiny.ROOT / "conf").params
    raw = yaml_edit.merged(
        yaml_edit.merged(tiny.PARAMS, preset), TOY | {"data": {"image_size": 16}}
    )
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(raw, file)
    supplied(Path("data/kinetics600"))
    for stage in STAGES:
        stage.main(config.read())

    metadata = artifact.load("prepare").metadata
    assert tuple(metadata["shape"]) == SHAPE
    assert {name: one["records"] for name, one in metadata["splits"].items()} == {
        "train": 60,
        "eval": 20,
    }, "two windows of each video"
    settings = json.loads(artifact.load("train").path("config.json").read_text())
    assert settings["network"]["image_shape"] == [16 - GIVEN, *SHAPE[1:]]
    assert settings["condition"] == {"given": {"shape": [GIVEN, *SHAPE[1:]]}}
    table = pd.read_csv("reports/evaluate/samplers.csv").set_index("sampler")
    assert {"base", "searched", "student_2", "copy_last"} <= set(table.index)
    with np.load(artifact.load("evaluate").path("base.npz")) as kept:
        assert kept["images"].shape == (30, *SHAPE)
    assert Path("reports/index.html").is_file()
