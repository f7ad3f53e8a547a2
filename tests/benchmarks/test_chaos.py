import random
import sys
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos import Kill
from tests import dvc_project, killing, tiny

STAGE = """
import pathlib, time
work, out = pathlib.Path(".sid2/train/0123/chunks"), pathlib.Path("artifacts/train")
work.mkdir(parents=True, exist_ok=True)
for number in range(len([*work.iterdir()]), 30):
    time.sleep(0.05)
    (work / f"{number}.npz").write_text("drawn")
out.mkdir(parents=True)
(out / "result").write_text("whole")
"""
DVC = """
import pathlib, subprocess, sys
if not pathlib.Path("artifacts").exists():
    sys.exit(subprocess.run([sys.executable, "-m", f"stages.{sys.argv[1]}"]).returncode)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A pipeline of one stage that takes a second and a half, and continues after a kill."""
    folder = tmp_path / "project"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages" / "train.py").write_text(STAGE, encoding="utf-8")
    (folder / "dvc.py").write_text(DVC, encoding="utf-8")
    monkeypatch.setitem(killing.COMMANDS, "repro", [f"{Path(sys.executable)} dvc.py"])
    monkeypatch.setattr(chaos, "START_SECONDS", 0.1)
    mark = {dvc_project._MARK: str(folder)}
    return dvc_project.Project(folder, tiny.environment(PYTHONPATH="", **mark))


def killed(project, number):
    return chaos._kill(project, "repro", "train", "train", number, 0.2, random.Random(number))


def test_stages_are_killed_after_new_work_and_end_as_if_they_were_not(project):
    kills = [killed(project, number) for number in range(2)]
    assert [one.what for one in kills] == ["stage", "everything"]
    assert min(one.new for one in kills) > 0
    assert not any(one.early for one in kills)
    assert killed(project, chaos.EARLY - 1).early
    assert chaos._finished(project, "repro", "train") == {"artifacts/train/result": b"whole"}
    assert killed(project, 2) is None  # nothing is left to do


def test_the_time_that_a_stage_works_is_measured(project):
    assert 0.5 < chaos._spans(project, "train")["train"] < 60


@pytest.mark.parametrize("kills", [1, 5, 30])
def test_kills_are_shared_as_equally_as_can_be(kills):
    shares = dict(chaos._shares(kills, ["repro", "queue"], ["train", "distill", "evaluate"]))
    counts = [count for stages in shares.values() for count in stages.values()]
    assert len(counts) == 6
    assert sum(counts) == kills
    assert max(counts) - min(counts) <= 1


def kill(new, unfinished=0):
    return Kill("repro", "train", "stage", False, 0.5, new, unfinished, readable=2)


def test_the_summary_counts_what_kills_found():
    found = chaos._summary([kill(3, 1), kill(0), kill(1), kill(9)], 7, ["b", "a", "b"])
    assert found == {
        "kills": 4,
        "with_a_new_checkpoint": 3,
        "share_with_a_new_checkpoint": 0.75,
        "while_a_checkpoint_was_written": 1,
        "checkpoints_read": 8,
        "files_compared": 7,
        "different": ["a", "b"],
        "same_bytes": False,
    }
