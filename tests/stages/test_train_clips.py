"""Training that continues clips, as a process: killed, on many devices, and by two processes."""

import signal
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests import processes, tiny
from tests.processes import checkpoints, finish, signalled
from tests.stages import trainings

STEPS = 20
DATA = tiny.source("moving_digits", count=60, frames=5, image_size=16) | {"given_frames": 2}
LENGTH = {
    "data": DATA,
    "model": tiny.ONE_BLOCK | {"patch_size": 4},
    "train": {
        "steps": STEPS,
        "given_dropout": 0.3,
        # As in test_train_devices.py.
        "ema_decay": 0.0,
        "optimiser": tiny.SECTIONS["train"]["optimiser"] | {"adam_eps": 1e-5},
    },
    "runtime": {"log_every": 5, "checkpoint_every": 4, "sample_every": 10},
}
WEIGHTS = "artifacts/train/model.safetensors"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory, compiled):
    """A project's root in which one process with one device has trained."""
    folder = tmp_path_factory.mktemp("alone")
    trainings.undisturbed(folder, compiled, LENGTH)
    return folder


@pytest.fixture
def project(alone, tmp_path):
    """Make another root, before training."""
    return partial(trainings.before, alone, tmp_path, LENGTH)


def test_killed_it_goes_on_and_ends_with_the_same_bytes(alone, project, compiled):
    folder = project()
    code, _ = signalled("train", folder, compiled, 4, signal.SIGKILL)
    assert code == -signal.SIGKILL
    newest = checkpoints(folder)[-1]
    (log,) = finish(processes.start("train", folder, compiled))
    assert f"train resumes from step {newest} of {STEPS}" in log
    found = tiny.snapshot(folder, "train")
    assert found == tiny.snapshot(alone, "train")
    assert {WEIGHTS, "reports/train/samples/20.png"} <= set(found)


@pytest.mark.parametrize("way", ["eight devices", "two processes"])
def test_many_train_as_one(alone, project, compiled, way):
    if way == "eight devices":
        folder = project(mesh={"data": 2, "fsdp": -1})
        finish(processes.start("train", folder, compiled, 8))
    else:
        folder = project(mesh={"data": 1, "fsdp": -1})
        finish(*processes.start_two("train", folder, compiled))
    one, other = (load_file(root / WEIGHTS) for root in (alone, folder))
    assert one.keys() == other.keys()
    for name, expected in one.items():
        error = np.linalg.norm(other[name].astype(np.float64) - expected)
        assert error < 1e-4 * np.linalg.norm(expected) + 1e-6, name
