"""The pipeline under DVC itself, killed and refused: `pytest -m slow tests/test_dvc.py`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import tiny

pytestmark = pytest.mark.slow
PATIENCE_S = 900
STEPS = tiny.SECTIONS["train"]["steps"]
FINISHED = f"train resumes from step {STEPS} of {STEPS}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project, tiny, with a DVC repository in which `prepare` has run."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("sid2core", "stages", "plugins", "constraints.txt", "dvc.yaml", ".dvcignore"):
        if (tiny.ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(tiny.ROOT / name, folder / name, ignore=ignored)
        elif (tiny.ROOT / name).exists():
            shutil.copyfile(tiny.ROOT / name, folder / name)
    tiny.write(folder)
    monkeypatch.chdir(folder)
    dvc("init", "--no-scm", "--quiet")
    dvc("repro", "prepare")
    return folder


def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    more = {"JAX_COMPILATION_CACHE_DIR": compiled} if compiled else {}
    return tiny.environment(PATH=path, PYTHONPATH="", **more)


def start(*words):
    return subprocess.Popen(
        ["dvc", *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def dvc(*words, code=0):
    """Run a command to its end; returns what it printed."""
    with start(*words) as process:
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode == 0) == (code == 0), printed
    return printed


def wait(pattern):
    """Until a file below the work folder matches."""
    deadline = time.monotonic() + PATIENCE_S
    while not list(Path(".sid2").glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.05)


def weights():
    return Path("artifacts/train/model.safetensors").read_bytes()


@contextmanager
def read_only(folder):
    """Nobody can write below ``folder``, not even root, which a mode does not stop."""
    if os.geteuid() != 0:
        folders = [folder, *(path for path in folder.iterdir() if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
        yield
        for path in folders:
            path.chmod(0o755)
        return
    mount = ["mount", "--bind", str(folder), str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_cache_that_cannot_be_written_costs_no_training_step(project):
    with read_only(project / ".dvc/cache/files/md5"):
        first = dvc("repro", "train", code=1)
    assert f"train starts at step 0 of {STEPS}" in first
    assert list(project.glob(".sid2/train/*/finished.json"))
    trained = weights()

    second = dvc("repro", "train")
    assert FINISHED in second
    assert "train starts at step 0" not in second
    assert weights() == trained

    # Recorded now: the next stage that runs removes the work, and nothing runs again.
    assert "Stage 'train' didn't change" in dvc("repro", "train")
    dvc("repro", "plan")
    assert not list(project.glob(".sid2/train/*/finished.json"))


def test_if_only_dvc_is_killed_its_orphan_ends_and_no_step_is_done_again(project):
    with start("repro", "train") as process:
        wait("train/*/checkpoints/*")
        process.send_signal(signal.SIGKILL)
        wait("train/*/finished.json")
    trained = weights()
    # DVC's own lock may stay behind until its process is gone.
    printed = dvc("repro", "train")
    assert FINISHED in printed
    assert weights() == trained


def append(path, text):
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def test_an_edit_runs_the_stages_again_that_it_means_something_to(project):
    dvc("repro", "plan", "train")
    append("sid2core/training/ema.py", "\n# A comment.\n")
    printed = dvc("repro", "plan", "train")
    assert "Running stage 'code'" in printed
    for stage in ("prepare", "plan", "train"):
        assert f"Stage '{stage}' didn't change, skipping" in printed
    append("sid2core/training/ema.py", "\nADDED = 1\n")
    dvc("repro", "code")
    printed = dvc("repro", "--dry", "plan", "train")
    assert "Running stage 'train'" in printed
    for stage in ("prepare", "plan"):
        assert f"Stage '{stage}' didn't change, skipping" in printed
