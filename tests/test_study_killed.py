"""Studies in DVC's queue: `python -m pytest -m slow tests/test_study_killed.py`: 15 minutes."""

import json
import platform
import sys
import time
from itertools import combinations
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from sid2core.report.read import study_files
from tests import dvc_project
from tests.studies import studies

SID2 = f"{sys.executable} -m sid2core.cli.main"
DEADLINE_S = 1800
RATES = {
    "variants": {"low": {"train.optimiser.learning_rate": 0.001}, "usual": {}},
    "params": {"train.steps": 400, "runtime.checkpoint_every": 50},
    "seeds": [0, 1],
    "target": "train",
    "measure": [{"name": "loss", "path": "reports/train/metrics.json:loss"}],
    "claims": [{"words": "The usual rate is better.", "order": ["usual", "low"]}],
}
STUDENTS = {
    "variants": {"one": {"distill.steps": [2, 1]}, "two": {"distill.steps": [2]}},
    "seeds": [0, 1],
    "target": "distill",
    "measure": [{"name": "fd", "path": "reports/distill/metrics.json:student_2.fd_train"}],
    "claims": [{"words": "Alike.", "order": ["one", "two"]}],
}


@pytest.fixture
def project(tmp_path):
    """A copy of the project with two studies, and GPUs that are only names."""
    made = dvc_project.copy(tmp_path / "project", SID2_GPUS="0,1")
    for name, changes in (("rates", RATES), ("students", STUDENTS)):
        with (made.folder / "experiments" / f"{name}.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(studies.raw(**changes), file)
    made.commit()
    yield made
    for one in made.processes():
        one.kill()


def leases(project):
    """What the stages of experiments had, one record for each process."""
    log = project.folder / ".sid2/gpus" / platform.node() / "leases.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    had = {row["pid"]: row for row in rows if row["event"] == "took"}
    for row in rows:
        if row["event"] == "gave back" and row["pid"] in had:
            had[row["pid"]]["until"] = row["time"]
    return list(had.values())


def kill(project, word):
    """Kill the project's processes whose command contains ``word``, once there are any."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = [one for one in project.processes() if word in " ".join(_command(one))]
        for one in found:
            one.kill()
        if found:
            return
        time.sleep(0.5)
    pytest.fail(f"no process of {word} within {DEADLINE_S} s")


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def no_device_was_shared(had):
    for one, other in combinations(had, 2):
        if "until" in one and "until" in other:
            apart = one["until"] <= other["time"] or other["until"] <= one["time"]
            assert apart or not set(one["gpus"]) & set(other["gpus"])


@pytest.mark.slow
def test_a_killed_study_continues_and_ends(project, tmp_path):
    log = tmp_path / "log"
    line = f"{SID2} study run rates --jobs 2"
    first = project.start(line, log)
    kill(project, "stages.train")
    kill(project, "stages.train")
    kill(project, "exp queue-worker")
    first.kill()
    first.wait()
    # The task of a dead worker has disappeared for DVC.
    project.run(line)
    runs = [one for one in project.experiments() if "/rates-" in one]
    assert len(runs) == 4
    before = log.stat().st_mtime, len(leases(project))
    assert "all 4 runs are finished" in project.run(line)
    assert (log.stat().st_mtime, len(leases(project))) == before
    no_device_was_shared(leases(project))

    project.run(f"{SID2} study report rates --to docs/results/rates.md")
    (found,) = study_files.read(project.folder)
    assert len(found.measures[0].curves) == 4
    assert Path(project.folder, "docs/results/rates.md").is_file()
    project.run(f"{SID2} study clean rates")
    assert not [one for one in project.experiments() if "/rates-" in one]


@pytest.mark.slow
def test_students_share_the_training_of_their_seed(project):
    project.run(f"{SID2} study run students --jobs 2")
    stages = [row["stage"] for row in leases(project)]
    assert stages.count("train") == 2
    assert stages.count("guidance_search") == 2
    assert stages.count("distill") == 4
    no_device_was_shared(leases(project))
