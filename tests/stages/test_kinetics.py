"""The preset kinetics600 with toy widths, on synthetic videos in the layout of Kinetics."""

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from sid2core import config
from sid2core.config import presets, yaml_edit
from sid2core.pipeline import artifact
from tests import processes, tiny
from tests.data import videos
from tests.stages.dag import COMPUTED, STAGES

pytestmark = pytest.mark.slow

VIDEOS, GIVEN, SHAPE = {"train": 30, "val": 10}, 5, (16, 16, 16, 3)
SETTINGS = {"weights": [0.5, 1.0], "intervals": [[0.0, 5.0]], "samples": 24, "first": 12}
TOY = {
    **{name: tiny.SECTIONS[name] for name in ("reference", "train", "distill", "eval", "runtime")},
    "data": {"image_size": 16, "shard_records": 8, "row_group_records": 8},
    "model": tiny.SECTIONS["model"] | tiny.ONE_BLOCK | {"patch_size": 4},
    "sampling": {"steps": 4, "batch_size": 16},
    "guidance_search": SETTINGS,
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


def project(folder, **changes):
    """Write the preset's parameters, with toy widths and ``changes``, and the videos."""
    shutil.copy(tiny.ROOT / "dvc.yaml", folder)
    raw = yaml_edit.merged(tiny.PARAMS, presets.read("kinetics600", tiny.ROOT / "conf").params)
    raw = yaml_edit.merged(yaml_edit.merged(raw, TOY), changes)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(raw, file)
    supplied(folder / "data/kinetics600")
    return folder


def test_the_preset_passes_all_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
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
    assert settings["videos"] == {"frame_stride": 1, "frames_per_second": None}
    assert settings["condition"] == {"given": {"shape": [GIVEN, *SHAPE[1:]]}}
    table = pd.read_csv("reports/evaluate/samplers.csv").set_index("sampler")
    assert {"base", "searched", "student_2", "copy_last"} <= set(table.index)
    with np.load(artifact.load("evaluate").path("base.npz")) as kept:
        assert kept["images"].shape == (30, *SHAPE)
    assert Path("reports/index.html").is_file()


CHANGES = {
    "runtime": {"log_every": 7, "checkpoint_every": 4},
    # As in test_train_devices.py.
    **{name: {"optimiser": {"adam_eps": 1e-5}} for name in ("train", "distill")},
}
PIECES = {
    "prepare": (".sid2/prepare/*/*.json", 3),
    "reference": ("artifacts/.reference.*/*", 1),
    "train": (None, 2),
    "guidance_search": (".sid2/drawn/**/chunk-*.npz", 2),
    "distill": (None, 1),
    "evaluate": (".sid2/drawn/**/chunk-*.npz", 4),
}
"""Files by which a stage shows its progress, and at how many it is killed; None: checkpoints."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory, compiled):
    """A project in which the stages ran undisturbed, each a process."""
    folder = project(tmp_path_factory.mktemp("calm"), **CHANGES)
    for stage in COMPUTED:
        processes.finish(processes.start(name(stage), folder, compiled))
    shutil.rmtree(folder / ".sid2")
    return folder


def name(stage):
    return stage.__name__.rpartition(".")[2]


def progress(folder, stage):
    """The pieces of its work that are there."""
    pattern = PIECES[stage][0]
    return processes.checkpoints(folder, stage) if pattern is None else [*folder.glob(pattern)]


def before(calm, folder, stage):
    """A copy of the project as it is before the stage."""
    shutil.copytree(calm, folder)
    for place in ("artifacts", "reports"):
        shutil.rmtree(folder / place / stage, ignore_errors=True)
    return folder


@pytest.mark.parametrize("stage", PIECES)
def test_killed_a_stage_ends_with_the_same_bytes(calm, tmp_path, compiled, stage):
    folder = before(calm, tmp_path / "killed", stage)
    count = PIECES[stage][1]
    with processes.start(stage, folder, compiled) as process:
        deadline = time.monotonic() + processes.PATIENCE
        while len(progress(folder, stage)) < count:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "artifacts" / stage).exists()
    (log,) = processes.finish(processes.start(stage, folder, compiled))
    if stage != "reference":  # which does its work again
        assert any(words in log for words in ("there already", "resumes from", "earlier run")), log
    assert tiny.snapshot(folder, stage) == tiny.snapshot(calm, stage)


@pytest.mark.parametrize("stage", ["train", "guidance_search", "distill", "evaluate"])
def test_two_processes_do_a_stage_as_one(calm, tmp_path, compiled, stage):
    folder = before(calm, tmp_path / "two", stage)
    params = YAML(typ="safe").load(folder / "params.yaml")
    params["runtime"]["mesh"] = {"data": -1, "fsdp": 1}  # all devices of both
    YAML(typ="safe").dump(params, folder / "params.yaml")
    processes.finish(*processes.start_two(stage, folder, compiled))
    models = {"train": "train", "distill": "distill/student_2"}
    tables = {"guidance_search": "guidance_search/grid.csv", "evaluate": "evaluate/scores.csv"}
    if stage in models:
        path = f"artifacts/{models[stage]}/model.safetensors"
        one, other = (load_file(root / path) for root in (calm, folder))
        for key, expected in one.items():
            error = np.linalg.norm(other[key].astype(np.float64) - expected)
            assert error < 1e-4 * np.linalg.norm(expected) + 1e-6, key
    else:
        found = (pd.read_csv(root / "reports" / tables[stage]) for root in (calm, folder))
        pd.testing.assert_frame_equal(*found, rtol=1e-4, atol=1e-4)
