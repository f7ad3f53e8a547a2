"""Base training on many devices and by many processes, by the real stage command."""

import shutil
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages import prepare, text, train
from tests import processes, tiny
from tests.processes import checkpoints, finish
from tests.refusals import CONTINUES
from tests.stages import trainings

STEPS = 20
LENGTH = {
    # One block: every process traces and compiles anew. The whole of the preset is divided in
    # tests/training/test_mesh.py.
    "model": tiny.ONE_BLOCK,
    "train": {
        "steps": STEPS,
        # With an average that forgets at once, what is written is the last step's parameters.
        "ema_decay": 0.0,
        "emas": [{"kind": "power", "value": 0.1}],
        # Biases before a norm of single channels have no gradient but rounding, and Adam would
        # make steps of full size of it.
        "optimiser": tiny.SECTIONS["train"]["optimiser"] | {"adam_eps": 1e-5},
    },
    "runtime": {"log_every": 5, "checkpoint_every": 5},
}
DATA, FSDP, BOTH = ({"data": -1, "fsdp": 1}, {"data": 1, "fsdp": -1}, {"data": 2, "fsdp": -1})
WEIGHTS = "artifacts/train/model.safetensors"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A project's root in which one process has trained on one device."""
    folder = tmp_path_factory.mktemp("alone")
    tiny.write(folder, **LENGTH)
    trainings.run(folder, prepare, text, train)
    return folder


@pytest.fixture
def project(alone, tmp_path):
    """Make another root, before training, with a mesh of its own."""
    return lambda mesh, **runtime: trainings.before(alone, tmp_path, LENGTH, mesh=mesh, **runtime)


def assert_as_alone(folder, alone):
    """The parameters of the last step, and the average, to 1e-5; the log has each step once."""
    for name in (WEIGHTS, "artifacts/train/ema_power_0.1.safetensors"):
        found, expected = load_file(folder / name), load_file(alone / name)
        assert set(found) == set(expected)
        one, two = (
            np.concatenate([np.ravel(weights[key]) for key in sorted(weights)]).astype(np.float64)
            for weights in (found, expected)
        )
        assert np.linalg.norm(one - two) < 1e-5 * np.linalg.norm(two)
    steps, other = (
        [line.split(",")[0] for line in (root / "reports/train/curve.csv").read_text().split()]
        for root in (folder, alone)
    )
    assert steps == other == ["step", "5", "10", "15", "20"]
    assert list(folder.glob(".sid2/train/*/finished.json")), "kept until DVC records it"


@pytest.mark.parametrize(
    ("devices", "mesh"),
    [
        (8, BOTH),
        *((devices, mesh) for devices in (2, 8) for mesh in (DATA, FSDP)),
    ],
)
@pytest.mark.slow
def test_many_devices_train_as_one(alone, project, compiled, devices, mesh):
    folder = project(mesh)
    finish(processes.start("train", folder, compiled, devices))
    assert_as_alone(folder, alone)


@pytest.mark.parametrize("mesh", [pytest.param(DATA, marks=pytest.mark.slow), FSDP])
def test_two_processes_train_as_one_and_the_first_one_speaks(alone, project, compiled, mesh):
    folder = project(mesh)
    speaks, silent = finish(*processes.start_two("train", folder, compiled))
    assert_as_alone(folder, alone)
    assert f"train starts at step 0 of {STEPS}" in speaks
    # XLA and Gloo say something of their own now and then; the stage does not, nor does its bar.
    assert "train:" not in silent


@pytest.mark.slow
def test_what_two_processes_wrote_one_process_reads(alone, project, compiled):
    """Two are killed between checkpoints; one goes on, on a device of its own."""
    folder = project(FSDP)
    pair = processes.start_two("train", folder, compiled)
    try:
        wait_for_a_checkpoint(folder, pair)
    finally:
        for process in pair:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert not (folder / "artifacts" / "train").exists()
    newest = max(checkpoints(folder))
    (log,) = finish(processes.start("train", folder, compiled))
    assert f"train resumes from step {newest} of {STEPS}" in log
    assert_as_alone(folder, alone)


@pytest.mark.slow
def test_a_signal_to_one_of_two_stops_both_and_two_or_one_go_on(
    alone, project, compiled, tmp_path_factory
):
    # They ask one another every fifth step; checkpoints between leave time for the signal.
    folder = project(FSDP, checkpoint_every=1)
    newest, begins = 0, f"starts at step 0 of {STEPS}"
    for asked in (1, 0):
        pair = processes.start_two("train", folder, compiled)
        wait_for_a_checkpoint(folder, pair, after=newest)
        pair[asked].send_signal(signal.SIGTERM)
        logs = finish(*pair, code=1)
        assert f"train {begins}" in logs[0]
        before, newest = newest, max(checkpoints(folder))
        assert before < newest < STEPS
        begins = f"resumes from step {newest} of {STEPS}"
        for log, by in ((logs[asked], "SIGTERM"), (logs[1 - asked], "another process")):
            assert log.splitlines()[-1] == (
                f"train: train: stopped by {by} after step {newest} of {STEPS}; {CONTINUES}"
            )
        assert not (folder / "artifacts" / "train").exists()
    copy = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(folder, copy)
    for root, logs in (
        (copy, finish(processes.start("train", copy, compiled))),
        (folder, finish(*processes.start_two("train", folder, compiled))),
    ):
        assert f"train {begins}" in logs[0]
        assert_as_alone(root, alone)


def wait_for_a_checkpoint(folder, pair, after=0):
    """Until one of a later step is whole."""
    deadline = time.monotonic() + processes.PATIENCE
    while max(checkpoints(folder), default=0) <= after and time.monotonic() < deadline:
        assert [process.poll() for process in pair] == [None, None]
        time.sleep(0.002)


@pytest.mark.mpi
def test_under_mpirun_too(alone, project, compiled):
    """By the parameter: the stage command starts the launcher, which starts the stage."""
    launcher = "mpirun --allow-run-as-root --oversubscribe -n 2"
    folder = project(FSDP, launcher=launcher)
    (log,) = finish(processes.start("train", folder, compiled))
    assert log.count(f"train starts at step 0 of {STEPS}") == 1
    assert_as_alone(folder, alone)


def test_a_launcher_that_is_not_there_ends_the_stage_in_a_line(project, compiled):
    folder = project(DATA, launcher="no-such-launcher -n 2")
    with processes.start("train", folder, compiled) as process:
        _, log = process.communicate()
    assert process.returncode == 1
    (line,) = log.splitlines()
    assert line.startswith("train: runtime.launcher: found 'no-such-launcher -n 2', which cannot")
