"""What a kill, a second process, a full disk and a cluster do to ``prepare``: no harm."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from filelock import FileLock

from sid2core.data.prepare import preparation
from sid2core.pipeline import artifact, workdir
from stages import prepare
from tests import tiny
from tests.data import pictures

DATA = {
    **tiny.source("folder", path="../images", image_size=16, channels=3),
    **{"shard_records": 20, "row_group_records": 8},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with 240 pictures, of which two cannot be used."""
    for name in ("cat", "dog"):
        for number in range(120):
            levels = pictures.noise(40, 52, seed=(number, len(name)))
            pictures.save(tmp_path / "images" / name / f"{number:03d}.png", levels)
    (tmp_path / "images/cat/007.png").write_bytes(b"")
    (tmp_path / "images/dog/note.txt").write_text("no image")
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(**runtime):
    prepare.main(tiny.params(data=DATA, runtime=runtime))


def stage(folder: Path, **runtime) -> subprocess.Popen:
    tiny.write(folder, data=DATA, runtime=runtime)
    command = [sys.executable, "-m", "stages.prepare"]
    return subprocess.Popen(command, cwd=folder, env=tiny.environment(), stderr=subprocess.PIPE)


def undisturbed(project):
    run()
    found = tiny.snapshot(project, "prepare")
    made = artifact.load("prepare").metadata["splits"]
    kept = made["train"]["records"] + made["eval"]["records"]
    assert kept + made["train"]["rejected"] + made["eval"]["rejected"] == 241
    assert kept == 239
    return found


def tallies(project):
    return list(project.glob(".sid2/prepare/*/*.json"))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_midway_it_goes_on_and_ends_with_the_same_bytes(project, workers):
    expected = undisturbed(project)
    with stage(project, workers=workers) as process:
        while len(tallies(project)) < 4 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was too quick to be killed"
    assert tiny.snapshot(project, "prepare") == expected, "the earlier result stays"
    with stage(project, workers=workers) as process:
        printed = process.stderr.read().decode()
    assert process.returncode == 0, printed
    assert "shards are there already" in printed
    assert tiny.snapshot(project, "prepare") == expected


@pytest.mark.filterwarnings("default")  # of the cluster's own, as it comes and goes
def test_a_dask_cluster_makes_the_same_bytes(project):
    expected = undisturbed(project)
    options = {"n_workers": 2, "threads_per_worker": 1, "protocol": "tcp", "host": "127.0.0.1"}
    with LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster:
        run(dask_address=cluster.scheduler_address)
    assert tiny.snapshot(project, "prepare") == expected


def test_a_second_process_is_turned_away(project):
    expected = undisturbed(project)
    locks = list(project.glob(".sid2/prepare/*.lock"))
    assert len(locks) == 1
    with FileLock(locks[0]), pytest.raises(workdir.WorkError, match="already running"):
        run()
    assert tiny.snapshot(project, "prepare") == expected


def test_a_changed_source_starts_anew(project, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "place", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert tallies(project)
    pictures.save(project.parent / "images/cat/008.png", np.zeros((9, 9, 3), np.uint8))
    run()
    made = artifact.load("prepare").metadata["splits"]
    assert made["train"]["records"] + made["eval"]["records"] == 239
    low = json.loads((project / "reports/prepare/metrics.json").read_text())
    assert low["rejected_images"] == 2


def test_data_that_change_while_they_are_read_are_reported(project, monkeypatch, caplog):
    write = preparation.write

    def interfered(*args):
        (project.parent / "images/dog/119.png").unlink()
        write(*args)
        pictures.save(project.parent / "images/dog/new.png", np.zeros((9, 9, 3), np.uint8))

    monkeypatch.setattr(preparation, "write", interfered)
    run()
    assert "the data changed while they were read" in caplog.text
    rejects = (project / "artifacts/prepare/rejects.csv").read_text()
    assert "dog/119.png,No such file or directory" in rejects


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up_is_reported_and_harms_nothing(project, tmp_path, monkeypatch):
    expected = undisturbed(project)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        monkeypatch.setenv("SID2_WORK", str(disk))
        with pytest.raises(preparation.DataError, match="no space left for .* make room"):
            run()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert tiny.snapshot(project, "prepare") == expected
        run()
        assert tiny.snapshot(project, "prepare") == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)
