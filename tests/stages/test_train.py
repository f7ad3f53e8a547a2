"""Base training as a user runs it: as a process, which may be killed at any moment."""

import json
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from sid2core.inference.model import Trained
from sid2core.models import network
from sid2core.pipeline import artifact
from tests import tiny
from tests.processes import checkpoints, finish, signalled, start
from tests.refusals import CONTINUES
from tests.stages import trainings

STEPS = 200
LENGTH = {
    # One block: every process traces it anew.
    "model": tiny.ONE_BLOCK,
    "train": {
        "steps": STEPS,
        "snapshots": [25, STEPS],
        "emas": [{"kind": "power", "value": 0.1}],
    },
    "loader": {"horizontal_flip": True, "max_shift": 1},
    # No multiple of one another: checkpoints fall between rows of the log.
    "runtime": {"log_every": 7, "checkpoint_every": 10},
}
RESULTS = [
    "artifacts/train/model.safetensors",
    "artifacts/train/config.json",
    "artifacts/train/manifest.json",
    "artifacts/train/snapshots/00000025.safetensors",
    "artifacts/train/snapshots/00000025.ema_power_0.1.safetensors",
    "reports/train/curve.csv",
    "reports/train/metrics.json",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compiled):
    """A project's root in which a process has trained, and what it logged."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, trainings.undisturbed(folder, compiled, LENGTH)


@pytest.fixture
def prepared(undisturbed, tmp_path):
    """Another root, before training."""
    return trainings.before(undisturbed[0], tmp_path, LENGTH)


def test_stopped_and_killed_it_goes_on_and_ends_with_the_same_bytes(
    undisturbed, prepared, compiled
):
    """Every other signal is a request as SIGTERM is: tests/training/test_signals.py."""
    folder, log = undisturbed
    assert f"train: train starts at step 0 of {STEPS}" in log
    newest = 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = newest
        code, log = signalled("train", prepared, compiled, before + 20, number)
        assert f"train {'resumes from' if before else 'starts at'} step {before} of {STEPS}" in log
        newest = checkpoints(prepared)[-1]
        if number == signal.SIGKILL:
            assert code == -number
        else:
            assert code == 1, "DVC sees a failed stage"
            assert log.splitlines()[-1] == (
                f"train: train: stopped by {number.name} after step {newest} of {STEPS}; "
                f"{CONTINUES}"
            )
            assert "Traceback" not in log
        assert before < newest < STEPS
        assert not (prepared / "artifacts" / "train").exists()
    # How many batches are made ahead, and what is held of the data, changes no byte either.
    tiny.write(
        prepared, **LENGTH | {"runtime": LENGTH["runtime"] | {"prefetch": 0, "cache_mib": 1}}
    )
    (log,) = finish(start("train", prepared, compiled))
    assert re.findall(r"train (?:starts|resumes).*", log) == [
        f"train resumes from step {newest} of {STEPS}"
    ]
    found, expected = (tiny.snapshot(root, "train") for root in (prepared, folder))
    assert set(RESULTS) <= set(expected)
    assert found == expected
    assert list(prepared.glob(".sid2/train/*/finished.json")), "kept until DVC records it"


def test_the_model_is_the_average_that_was_trained(undisturbed):
    folder, _ = undisturbed
    root = folder / "artifacts"
    made = artifact.load("train", root=root, prepare=artifact.load("prepare", root=root))
    settings = tiny.params(**LENGTH)
    assert made.metadata == {"steps": STEPS}
    assert made.manifest["params"] == {
        "seed": settings.seed,
        "data": {"given_frames": 0},
        "loader": settings.loader.model_dump(),
        "diffusion": settings.diffusion.model_dump(),
        "model": settings.model.model_dump(),
        "train": settings.train.model_dump(),
    }
    model = Trained.load(made.folder)
    assert model.denoiser.network.config.image_shape == (8, 8, 1)
    assert model.denoiser.prediction == settings.diffusion.prediction
    draws = np.random.default_rng(0)
    z = jnp.asarray(draws.normal(size=(16, 8, 8, 1)), jnp.float32)
    denoised = jax.jit(lambda *given: model.denoiser(*given))
    x_hat = denoised(model.params, z, jnp.full(16, -9.0), tiny.labels(np.arange(16) % 10))
    # In almost pure noise it has learnt that digits are dark: their mean is about −0.4.
    assert -0.8 < float(x_hat.mean()) < -0.1


def test_the_last_snapshot_is_the_end_of_the_training(undisturbed):
    made = undisturbed[0] / "artifacts" / "train"
    ends = {"model": f"{STEPS:08}", "ema_power_0.1": f"{STEPS:08}.ema_power_0.1"}
    for end, snapshot in ends.items():
        content = (made / "snapshots" / f"{snapshot}.safetensors").read_bytes()
        assert content == (made / f"{end}.safetensors").read_bytes()


def test_the_reports_say_how_it_went(undisturbed):
    folder, _ = undisturbed
    curve = pd.read_csv(folder / "reports/train/curve.csv")
    assert list(curve["step"]) == [*range(7, STEPS, 7), STEPS]
    assert {"loss", "grad_norm", "learning_rate"} < set(curve)
    assert curve["loss"].iloc[-3:].mean() < 0.9 * curve["loss"].iloc[:3].mean()
    speed = pd.read_csv(folder / "reports/train/speed.csv")
    assert list(speed["step"]) == list(curve["step"])
    assert speed["data_wait_share"].between(0, 1).all()
    metrics = json.loads((folder / "reports/train/metrics.json").read_text())
    assert metrics["loss"] == pytest.approx(curve["loss"].iloc[-1], abs=1e-5)
    assert metrics["steps"] == STEPS
    _, params, _ = network.load(folder / "artifacts/train")
    assert metrics["parameters"] == sum(value.size for value in params.values())
    images = STEPS * tiny.params(**LENGTH).train.batch_size
    assert metrics["training_pflops"] == pytest.approx(
        metrics["gflops_forward"] * 3 * images / 1e6, abs=1e-4
    )


def test_a_damaged_input_ends_the_process_in_a_line(prepared, compiled):
    (shard,) = (prepared / "artifacts/prepare").glob("train-*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1])
    with start("train", prepared, compiled) as process:
        _, log = process.communicate()
    assert process.returncode == 1
    (line,) = log.splitlines()
    assert line.startswith("train: artifacts/prepare/train-")
    assert line.endswith("run `dvc repro prepare` to make it again")
    assert {path.name for path in prepared.iterdir()} == {"artifacts", "params.yaml"}
