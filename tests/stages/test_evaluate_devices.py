"""Evaluation and search on many devices, by two processes and after kill -9, by stage command."""

import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest

from tests import processes, tiny

MESH = {"runtime": {"mesh": {"data": -1, "fsdp": 1}}}


@pytest.fixture
def fresh(project, tmp_path):
    """Make roots in which all but the evaluation has run."""

    def make(name):
        folder = tmp_path / name
        shutil.copytree(project / "artifacts", folder / "artifacts")
        shutil.rmtree(folder / "artifacts" / "evaluate")
        tiny.write(folder, **MESH)
        return folder

    return make


def same(folder, other):
    """Scores to 1e-6, images to a level of grey in few places."""
    tables = [pd.read_csv(one / "reports/evaluate/scores.csv") for one in (folder, other)]
    names = ["sampler", "extractor", "metric", "samples"]
    assert tables[0][names].equals(tables[1][names])
    distances = tables[0]["metric"].str.startswith("fd_")
    for column in ("value", "bias"):
        first, second = (table[distances][column] for table in tables)
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)
    for path in sorted((folder / "artifacts/evaluate").glob("*.npz")):
        first, second = (np.load(one / "artifacts/evaluate" / path.name) for one in (folder, other))
        for array in first:
            assert np.abs(first[array].astype(int) - second[array]).max() <= 1


def kill(stage, folder, compiled, count):
    """Start a stage, and kill it once ``count`` chunks are there."""
    with processes.start(stage, folder, compiled) as process:
        deadline = time.monotonic() + processes.PATIENCE
        while len(list((folder / ".sid2" / "drawn").rglob("chunk-*.npz"))) < count:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "counts"), [("guidance_search", (1, 4)), ("distill", (1, 2))])
def test_killed_while_it_scores_a_stage_ends_with_the_same_bytes(fresh, tmp_path, stage, counts):
    """The search has ten chunks. Of distill's two one is the teacher's, one the student's."""
    folders, compiled = [fresh("calm"), fresh("killed")], tmp_path / "compiled"
    for folder in folders:
        shutil.rmtree(folder / "artifacts" / stage)
    processes.finish(processes.start(stage, folders[0], compiled))
    for count in counts:
        kill(stage, folders[1], compiled, count)
        assert not (folders[1] / "artifacts" / stage).exists()
    (log,) = processes.finish(processes.start(stage, folders[1], compiled))
    assert "chunks are of an earlier run" in log
    calm, killed = (tiny.snapshot(folder, stage) for folder in folders)
    assert calm == killed


@pytest.mark.slow
def test_devices_processes_and_kills_change_nothing(fresh, tmp_path):
    compiled, folders = tmp_path / "compiled", []
    for devices in (1, 2, 8):
        folders.append(fresh(f"devices-{devices}"))
        processes.finish(processes.start("evaluate", folders[-1], compiled, devices))
    folders.append(fresh("two"))
    logs = processes.finish(*processes.start_two("evaluate", folders[-1], compiled))
    assert "evaluate:" not in logs[1], "one of two speaks"
    folders.append(fresh("killed"))
    kill("evaluate", folders[-1], compiled, 4)
    (log,) = processes.finish(processes.start("evaluate", folders[-1], compiled))
    assert "chunks are of an earlier run" in log
    for folder in folders[1:]:
        same(folder, folders[0])
        assert list(folder.glob(".sid2/evaluate/*/finished.json")), "kept until DVC records it"
    one, again = (tiny.snapshot(folder, "evaluate") for folder in (folders[0], folders[-1]))
    assert one == again, "after a kill the very bytes"


@pytest.mark.slow
def test_two_processes_search_as_one(fresh, tmp_path):
    tables = []
    for name in ("one", "two"):
        folder = fresh(name)
        shutil.rmtree(folder / "artifacts" / "guidance_search")
        start = processes.start_two if name == "two" else lambda *where: [processes.start(*where)]
        processes.finish(*start("guidance_search", folder, tmp_path / "compiled"))
        tables.append(pd.read_csv(folder / "reports/guidance_search/grid.csv"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-6, atol=1e-6)
