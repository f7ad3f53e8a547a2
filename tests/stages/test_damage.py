"""Every long stage on a full disk; and stopped midway, with its unfinished work damaged.

    python -m pytest -m slow tests/stages/test_damage.py

The same command must end with the bytes of an undisturbed run, without a traceback, and without
doing undamaged work again. Kills of processes are in ``tests/test_dvc_killed.py``.
"""

import itertools
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sid2core import checksums, config
from sid2core.config import yaml_edit
from sid2core.pipeline import stage as pipeline_stage
from sid2core.text import writing
from sid2core.training.checkpoints import Checkpoints
from stages import distill, evaluate, guidance_search, prepare, reference, text, train
from tests import captioned, tiny
from tests.damage import DAMAGES
from tests.stages.dag import COMPUTED

pytestmark = pytest.mark.slow

STAGES = {
    "prepare": prepare,
    "text": text,
    "reference": reference,
    "train": train,
    "guidance_search": guidance_search,
    "distill": distill,
    "evaluate": evaluate,
}
TRAININGS, WITHOUT_WORK = ("train", "distill"), ("reference",)
CHECKPOINTS = 3
SECTIONS = captioned.NET | {
    "data": {"shard_records": 8, "row_group_records": 8, "captions": "required"},
    "distill": {"iterations": 14},
    "guidance_search": {"weights": [0.5, 1.0, 2.0, 3.0]},
    "runtime": {"log_every": 7, "checkpoint_every": 4, "keep_checkpoints": CHECKPOINTS},
}
"""Enough work to be interrupted midway; checkpoints fall between rows of the log."""


class Killed(BaseException):
    """Ends a stage here as SIGKILL ends its process."""


def emptied(path):
    """The file without a byte."""
    path.write_bytes(b"")


def run(stage):
    STAGES[stage].main(config.read())


@pytest.fixture(scope="module", autouse=True)
def _small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "CHUNK", 8)
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A project in which all stages ran undisturbed; and how much work each kept."""
    folder = tmp_path_factory.mktemp("calm")
    captioned.write(folder)
    written = (folder / "params.yaml").read_text(encoding="utf-8")
    tiny.write(folder, **yaml_edit.merged(yaml_edit.load(written), SECTIONS))
    work = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        for stage in COMPUTED:
            stage.main(config.read())
            name = stage.__name__.rpartition(".")[2]
            work[name] = len([*Path(".sid2").rglob("*.sha256")]), used(Path(".sid2"))
            shutil.rmtree(".sid2")
    return folder, work


@pytest.fixture
def before(calm, tmp_path, monkeypatch):
    """Makes the current folder a project as it is before a stage runs."""

    def make(stage):
        shutil.copytree(calm[0], tmp_path / "project")
        monkeypatch.chdir(tmp_path / "project")
        for place in ("artifacts", "reports"):
            shutil.rmtree(Path(place, stage), ignore_errors=True)
        for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
            monkeypatch.delenv(name, raising=False)

    return make


def interrupt(stage, pieces):
    """Run a stage until half of its pieces are sealed, or until it has all checkpoints."""
    seal, save, count = checksums.seal, Checkpoints.save, itertools.count()

    def sealed(path):
        if next(count) >= pieces // 2:
            raise Killed
        seal(path)

    def saved(self, *args):
        if next(count) >= CHECKPOINTS:
            self.steps()  # once the last one is written
            raise Killed
        save(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        if stage in TRAININGS:
            patch.setattr(Checkpoints, "save", saved)
        else:
            patch.setattr(checksums, "seal", sealed)
        with pytest.raises(Killed):
            run(stage)


def work_files():
    """All work files by age, but the second copy of a record, of which one has to be whole."""
    files = [path for path in Path(".sid2").rglob("*") if path.is_file()]
    return sorted(
        (path for path in files if path.suffix != ".lock" and ".copy" not in path.name),
        key=lambda path: path.stat().st_mtime_ns,
    )


def newest_of_each_kind():
    """Of each kind of work file the newest; names of one kind differ in numbers and hashes."""
    return {re.sub(r"[0-9a-f]{16,}|\d+", "#", str(path)): path for path in work_files()}


def chunk_of(path):
    """What is done again with a file: the chunk of its number in the same folder."""
    return path.parent, *re.findall(r"\d+", path.name.partition(".")[0])


def checkpoints():
    """The steps of all checkpoints that match their checksums."""
    found = [path for path in Path(".sid2").rglob("checkpoints/*") if path.name.isdigit()]
    return sorted(
        int(path.name)
        for path in found
        if checksums.whole(path / "default") and checksums.whole(path / "log.json")
    )


def same(calm, stage):
    found, expected = (tiny.snapshot(folder, stage) for folder in (Path.cwd(), calm))
    assert [*found] == [*expected]
    assert [name for name in expected if found[name] != expected[name]] == []


def resumed(caplog):
    return [int(step) for step in re.findall(r"resumes from step (\d+)", caplog.text)]


@pytest.mark.parametrize("damage", [*DAMAGES, emptied])
@pytest.mark.parametrize("stage", [one for one in STAGES if one not in WITHOUT_WORK])
def test_damaged_work_is_done_again_and_no_other(stage, damage, before, calm, caplog):
    folder, work = calm
    before(stage)
    interrupt(stage, work[stage][0])
    steps = checkpoints()
    harmed = newest_of_each_kind()
    # What Orbax writes beside the sealed files of a checkpoint: no restart may need it.
    beside = [*Path(".sid2").rglob("checkpoints/*/_CHECKPOINT_METADATA")]
    again = {chunk_of(path) for path in harmed.values()}
    spared = {
        path: path.stat().st_mtime_ns
        for path in work_files()
        if path.suffix in (".npz", ".npy", ".parquet")
        and path.with_name(f"{path.name}{checksums.SUFFIX}").exists()
        and chunk_of(path) not in again
    }
    for path in {*harmed.values(), *beside}:
        damage(path)
    caplog.clear()
    caplog.set_level(logging.INFO)
    run(stage)
    same(folder, stage)
    assert "is damaged (its checksum does not match)" in caplog.text
    warnings = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert [line for line in warnings if "\n" in line] == []
    assert [path for path, time in spared.items() if path.stat().st_mtime_ns != time] == []
    if stage in TRAININGS:
        assert len(steps) == CHECKPOINTS
        assert resumed(caplog)[:1] == steps[-2:-1]
    else:
        assert spared


@pytest.fixture
def resize():
    """Puts a folder on a disk of so many bytes; a second call changes them."""
    mounted = []

    def make(folder, size):
        folder = folder.absolute()
        if folder in mounted:
            subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
            return
        folder.mkdir(exist_ok=True)
        kept = shutil.copytree(folder, folder.with_name(f"{folder.name}.kept"))
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("may not mount a file system")
        mounted.append(folder)
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def used(folder):
    """Bytes of the files below a folder, in blocks of 4 KiB."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def ends(stage, monkeypatch):
    """The sentence that a stage ends with."""
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    with pytest.raises(SystemExit) as caught:
        pipeline_stage.run(stage, STAGES[stage].main)
    return str(caught.value)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_ends_a_stage_in_a_sentence_and_loses_nothing(
    stage, before, calm, resize, monkeypatch, caplog, capfd
):
    folder, work = calm
    before(stage)
    places = [".sid2"] * (stage not in WITHOUT_WORK) + ["artifacts"]
    places += ["reports"] * Path(folder, "reports", stage).exists()
    newest = []
    for place in places:
        resize(Path(place), work[stage][1] * 2 // 3 if place == ".sid2" else used(Path(place)))
        message = ends(stage, monkeypatch)
        assert "No space left on device" in message, place
        assert "make room" in message, place
        assert "\n" not in message, place
        assert "Traceback" not in caplog.text + capfd.readouterr().err, place
        newest = newest or checkpoints()[-1:]
        resize(Path(place), "64m")
    caplog.clear()
    caplog.set_level(logging.INFO)
    run(stage)
    same(folder, stage)
    if stage in TRAININGS:
        assert newest
        assert resumed(caplog)[:1] >= newest
