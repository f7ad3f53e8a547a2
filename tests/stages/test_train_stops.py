"""Training that is stopped, goes wrong, begins elsewhere or is watched, as a user meets it."""

import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sid2core import config
from sid2core.models import network
from sid2core.pipeline import artifact
from sid2core.training import base
from sid2core.training.loop import TrainingError
from stages import train
from tests import tiny


def test_the_log_has_every_row_once_and_what_moves(project):
    loss = {"sigmoid": {"bias": 4.0, "bias_start": -2.0, "bias_steps": 15}}
    rhythm = {"log_every": 7, "checkpoint_every": 10}
    train.main(tiny.params(diffusion={"loss": loss}, runtime=rhythm))
    curve = pd.read_csv(project / "reports/train/curve.csv")
    steps = tiny.SECTIONS["train"]["steps"]
    assert list(curve["step"]) == [*range(7, steps, 7), steps]
    # The mean over a row's steps, which begin at index 0.
    assert curve["bias"][0] == pytest.approx(-2.0 + 6.0 * 3 / 15, abs=1e-6)
    assert curve["bias"].iloc[-1] == 4.0
    parts = curve[[name for name in curve if name.startswith("loss_logsnr")]]
    assert parts.shape[1] == 4
    np.testing.assert_allclose(parts.sum(axis=1), curve["loss"], rtol=1e-4)
    assert (parts > 0).all().all(), "every noise level has its share"
    assert (curve[["param_norm", "update_norm", "grad_norm"]] > 0).all().all()
    assert (curve["skipped"] == 0).all()
    speed = pd.read_csv(project / "reports/train/speed.csv")
    assert (speed["peak_memory_mib"] > 50).all()


def test_a_run_that_breaks_stops_with_what_to_do_and_leaves_the_earlier_model(project):
    before = (project / "artifacts/train/model.safetensors").read_bytes()
    optimiser = tiny.SECTIONS["train"]["optimiser"] | {"learning_rate": 1e30, "warmup_steps": 0}
    broken = tiny.params(
        model=tiny.ONE_BLOCK, train={"optimiser": optimiser}, runtime={"max_skipped": 4}
    )
    with pytest.raises(TrainingError) as caught:
        train.main(broken)
    message = str(caught.value)
    assert re.search(r"train: step \d+ is not finite, as are 4 in a row", message)
    assert "update_norm inf" in message
    assert "lower train.optimiser.learning_rate" in message
    assert (project / "artifacts/train/model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_after_updates_that_are_not_finite_training_continues_from_exported_weights(
    project, monkeypatch
):
    """The message names a folder that ``train.init_from`` accepts."""
    compiled = base.compiled

    nan = {"loss": jnp.float32(jnp.nan), "skipped": jnp.int32(9)}

    def breaks(*args):
        first, step_of = compiled(*args)

        def step(state, batch, key):
            bad = int(state["step"]) >= 6
            state, scalars = step_of(state, batch, key)
            calm = {name: jnp.float32(1) for name in scalars if name.endswith("_norm")}
            return state, scalars | calm | (nan if bad else {})

        return first, step

    rhythm = {"log_every": 2, "checkpoint_every": 2, "max_skipped": 4}
    with monkeypatch.context() as patch:
        patch.setattr(base, "compiled", breaks)
        with pytest.raises(TrainingError) as caught:
            train.main(tiny.params(model=tiny.ONE_BLOCK, runtime=rhythm))
    found = re.search(r"set train\.init_from to (\S+);", str(caught.value))
    assert found, str(caught.value)
    more = {"steps": 2, "init_from": found[1]}
    train.main(tiny.params(model=tiny.ONE_BLOCK, train=more, runtime=rhythm))
    assert artifact.load("train").metadata["init_from"]["image_shape"]


@pytest.mark.slow
def test_an_earlier_model_is_where_training_begins_and_what_is_frozen_stays(project, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(project / "artifacts/train", earlier)
    _, before, _ = network.load(earlier)
    train.main(
        tiny.params(train={"steps": 5, "init_from": str(earlier), "freeze": ["conditioning/*"]})
    )
    made = artifact.load("train")
    _, after, _ = network.load(made.folder)
    moved = {name for name in before if (after[name] != before[name]).any()}
    frozen = {name for name in before if name.startswith("conditioning/")}
    assert frozen
    assert not moved & frozen
    assert len(moved) > len(before) / 2
    assert made.metadata == {
        "steps": 5,
        "init_from": {
            "sha256": artifact.sha256(earlier / "model.safetensors"),
            "image_shape": [8, 8, 1],
        },
        "frozen_parameters": sum(before[name].size for name in frozen),
    }
    # A model of five steps is nearer to where it began than to a fresh one.
    distance = {name: float(np.abs(after[name] - before[name]).mean()) for name in moved}
    assert max(distance.values()) < 0.05


def test_other_weights_at_the_same_place_are_other_work(project, tmp_path):
    """Their SHA-256 is part of the fingerprint: a killed run does not go on from other weights."""
    earlier = tmp_path / "earlier"
    shutil.copytree(project / "artifacts/train", earlier)
    folders = set()
    for scale in (1.0, 2.0):
        net, weights, extra = network.load(earlier)
        network.save(
            earlier,
            net,
            {name: scale * np.asarray(value) for name, value in weights.items()},
            {"diffusion": extra["diffusion"]},
        )
        raw = tiny.raw(train={"steps": 2, "init_from": str(earlier)})
        raw["train"]["optimiser"] |= {"learning_rate": 1e30, "warmup_steps": 0}
        with pytest.raises(TrainingError):
            train.main(config.parse(raw | {"runtime": raw["runtime"] | {"max_skipped": 1}}))
        folders |= {path.parent for path in project.glob(".sid2/train/*/made_for.json")}
    assert len(folders) == 2


def test_a_grid_of_samples_is_drawn_while_it_trains_and_changes_nothing(project):
    expected = tiny.snapshot(project, "train")
    train.main(tiny.params(runtime={"sample_every": 15}))
    grids = sorted((project / "reports/train/samples").iterdir())
    assert [path.name for path in grids] == ["15.png", "30.png"]
    with Image.open(grids[0]) as picture:
        assert picture.size == (8 * 32, 4 * 32)
    assert grids[0].read_bytes() != grids[1].read_bytes()
    found = tiny.snapshot(project, "train")
    assert {name: found[name] for name in expected} == expected
    shutil.rmtree(".sid2")
    train.main(tiny.params())
    assert not (project / "reports/train/samples").exists(), "it is of another run"


def test_metrics_and_curve_are_there_while_it_trains(project, monkeypatch):
    monkeypatch.setattr("sid2core.training.loop._SHOW_SECONDS", 0.0)
    shown, flush = [], train.Log.flush

    def seen(log, folder):
        flush(log, folder)
        if folder == train.REPORTS:
            shown.append(log.rows[-1]["step"])

    monkeypatch.setattr(train.Log, "flush", seen)
    train.main(tiny.params())
    assert shown == [5, 10, 15, 20, 25, 30, 30]
    metrics = json.loads((train.REPORTS / "metrics.json").read_text())
    assert metrics["steps"] == 30
