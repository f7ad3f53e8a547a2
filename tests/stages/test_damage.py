"""Every long stage, interrupted midway; then its unfinished work is damaged, or its disk is full.

    python -m pytest -m slow tests/stages/test_damage.py

The same command must end with the bytes of an undisturbed run, without a traceback, and without
doing undamaged work again. Kills of processes are in ``tests/test_dvc_killed.py``.
"""

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sid2core import checksums
from sid2core.pipeline import stage as pipeline_stage
from sid2core.training.checkpoints import Checkpoints
from stages import distill, evaluate, guidance_search, prepare, reference, train
from tests import tiny
from tests.damage import DAMAGES

pytestmark = pytest.mark.slow

STAGES = {
    "prepare": prepare,
    "reference": reference,
    "train": train,
    "guidance_search": guidance_search,
    "distill": distill,
    "evaluate": evaluate,
}
TRAININGS = ("train", "distill")
CHECKPOINTS = 3
PARAMS = tiny.params(
    data={"shard_records": 128, "row_group_records": 128},
    distill={"iterations": 14},
    guidance_search={"weights": [0.5, 1.0, 2.0, 3.0]},
    runtime={"log_every": 7, "checkpoint_every": 4, "keep_checkpoints": CHECKPOINTS},
)
"""Enough work to be interrupted midway; checkpoints fall between rows of the log."""


class Killed(BaseException):
    """What ends a stage here as SIGKILL ends its process."""


def emptied(path):
    """The name without a byte."""
    path.write_bytes(b"")


def removed(path):
    """Not even the name."""
    path.unlink()


def run(stage):
    STAGES[stage].main(PARAMS)


@pytest.fixture
def before(project, monkeypatch):
    """Makes the current folder a project as it is before a stage runs."""

    def make(stage):
        for place in ("artifacts", "reports"):
            shutil.rmtree(project / place / stage)
        return project

    return make


@pytest.fixture(scope="module")
def expected(tmp_path_factory, finished):
    """Makes what an undisturbed run of a stage writes, once."""
    made = {}

    def of(stage):
        if stage not in made:
            folder = tmp_path_factory.mktemp("calm") / "project"
            shutil.copytree(finished, folder)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
                    patch.delenv(name, raising=False)
                run(stage)
            made[stage] = tiny.snapshot(folder, stage), len(pieces(folder / ".sid2"))
        return made[stage]

    return of


def interrupt(stage, enough):
    """Run a stage until there are so many pieces of sealed work, or checkpoints."""
    seal, save = checksums.seal, Checkpoints.save

    def sealed(path):
        seal(path)
        if len(pieces(Path(".sid2"))) >= enough:
            raise Killed

    def saved(self, *args):
        if len(checkpoints()) >= CHECKPOINTS:
            raise Killed
        save(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        if stage in TRAININGS:
            patch.setattr(Checkpoints, "save", saved)
        else:
            patch.setattr(checksums, "seal", sealed)
        with pytest.raises(Killed):
            run(stage)


def pieces(work):
    """All sealed files and folders below a folder."""
    files = [work / f"{path}".removesuffix(checksums.SUFFIX) for path in work.rglob("*.sha256")]
    folders = [path.parent for path in work.rglob(checksums.SUMS)]
    return sorted(set(Path(path) for path in files) | set(folders))


def loose(work):
    """Files without a seal; a restart may not depend on them."""
    sealed = pieces(work)
    files = [path for path in work.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [
        path
        for path in sorted(files)
        if not path.name.endswith((checksums.SUFFIX, checksums.SUMS))
        and not any(path.is_relative_to(one) for one in sealed)
    ]


def largest(piece):
    """The file of a piece that has most of its bytes."""
    files = [path for path in [piece, *piece.rglob("*")] if path.is_file()]
    return max(files, key=lambda path: (path.name != checksums.SUMS, path.stat().st_size))


def checkpoints():
    """The steps of all checkpoints that match their checksums."""
    found = [path for path in Path(".sid2").rglob("checkpoints/*") if path.name.isdigit()]
    return sorted(int(path.name) for path in found if all(map(checksums.whole, pieces(path))))


def written(found):
    """When each file of these pieces was written."""
    files = [path for one in found for path in [one, *one.rglob("*")] if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


def same(project, stage, expected):
    found = tiny.snapshot(project, stage)
    assert [*found] == [*expected]
    assert [name for name in expected if found[name] != expected[name]] == []


def resumed(caplog):
    return [int(step) for step in re.findall(r"resumes from step (\d+)", caplog.text)]


@pytest.mark.parametrize("damage", [*DAMAGES, emptied, removed])
@pytest.mark.parametrize("stage", [one for one in STAGES if one != "reference"])
def test_damaged_work_is_done_again_and_no_other(stage, damage, before, expected, caplog):
    """The stage reference keeps no unfinished work."""
    result, count = expected(stage)
    project = before(stage)
    interrupt(stage, count // 2)
    found = pieces(project / ".sid2")
    if stage in TRAININGS:  # without it the user is asked: tests/pipeline/test_workdir.py
        found = [one for one in found if one.name != "made_for.json"]
    harmed, spared = found[1::2], written(found[0::2])
    assert harmed
    assert spared
    for path in [*map(largest, harmed), *loose(project / ".sid2")]:
        damage(path)
    newest = checkpoints()[-1:]
    caplog.clear()
    caplog.set_level(logging.INFO)
    run(stage)
    same(project, stage, result)
    if stage in TRAININGS:
        assert resumed(caplog)[:1] == newest
    after = written(path for path in spared if path.exists())
    assert [path for path, time in after.items() if spared[path] != time] == []


@pytest.fixture
def shrink():
    """Puts a folder on a disk of so many bytes; a second call changes them."""
    mounted = []

    def make(folder, size):
        if folder in mounted:
            subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
            return
        folder.mkdir(exist_ok=True)
        kept = shutil.copytree(folder, folder.with_name(f"{folder.name}.kept"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("may not mount a file system")
        mounted.append(folder)
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def used(folder):
    """Bytes of the files below a folder, in blocks of 4 KiB."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def ends(stage, monkeypatch):
    """The sentence that a stage ends with."""
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    with pytest.raises(SystemExit) as caught:
        pipeline_stage.run(stage, STAGES[stage].main, lambda: PARAMS)
    return str(caught.value)


@pytest.mark.parametrize("place", [".sid2", "artifacts", "reports"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_ends_a_stage_in_a_sentence_and_loses_nothing(
    stage, place, before, expected, shrink, monkeypatch, caplog
):
    if (stage, place) == ("reference", ".sid2"):
        pytest.skip("it keeps no unfinished work")
    result, count = expected(stage)
    project = before(stage)
    size = used(project / place)
    if place == ".sid2":
        interrupt(stage, count // 2)
        size = used(project / place)
        shutil.rmtree(project / place)
    shrink(project / place, size)
    message = ends(stage, monkeypatch)
    assert "No space left on device" in message
    assert "make room" in message
    assert "\n" not in message
    newest = checkpoints()[-1:]
    shrink(project / place, "64m")
    caplog.clear()
    caplog.set_level(logging.INFO)
    run(stage)
    same(project, stage, result)
    if stage in TRAININGS:
        assert resumed(caplog)[:1] == newest
