"""Queued experiments, as DVC runs them: `python -m pytest -m slow tests/test_queue.py`."""

import json
import platform
import time
from itertools import combinations
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sid2core.cli import main
from tests import dvc_project

RATES = (0.001, 0.002, 0.004)
DEADLINE_S = 3600


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A copy of the project with a committed, tiny baseline; runs commands in it."""
    project = dvc_project.copy(tmp_path / "project", SID2_GPUS="0,1")
    monkeypatch.chdir(project.folder)
    assert main.main(["preset", "tiny"]) == 0
    project.commit()
    # What all experiments share is made before: making it at once, all but one would be refused.
    project.run("dvc repro text")
    yield project.run
    project.run("dvc queue stop --kill")


def wait(run):
    """Wait until every experiment has a result in Git.

    DVC's workers share a folder of messages, and one that reads a message half written ends (DVC's
    issue 10428); `dvc queue status` adds to these. What ended workers left goes on with new ones.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        refs = run("git for-each-ref --format=%(refname) refs/exps").split()
        if "refs/exps/celery/failed" in refs:
            pytest.fail(f"an experiment failed:\n{run('dvc queue status')}")
        if sum(not ref.startswith(("refs/exps/celery", "refs/exps/exec")) for ref in refs) == len(
            RATES
        ):
            return
        workers = Path(".dvc", "tmp", "exps", "celery").glob("dvc-exp-worker-*.json")
        codes = [json.loads(path.read_text(encoding="utf-8"))["returncode"] for path in workers]
        if codes and None not in codes:
            run("dvc queue start --jobs 2")
        time.sleep(10)
    pytest.fail(f"the queue did not end within {DEADLINE_S} s:\n{run('dvc queue status')}")


def results(run):
    """Of every experiment: its learning rate, its last loss, the hash of its weights."""
    yaml = YAML(typ="safe")
    for revision in run("dvc exp list --sha-only").split():
        params = yaml.load(run(f"git show {revision}:params.yaml"))
        metrics = json.loads(run(f"git show {revision}:reports/train/metrics.json"))
        lock = yaml.load(run(f"git show {revision}:dvc.lock"))
        outs = {out["path"]: out["md5"] for out in lock["stages"]["train"]["outs"]}
        rate = params["train"]["optimiser"]["learning_rate"]
        yield rate, metrics["loss"], outs["artifacts/train"]


def leases():
    """What the experiments' stages had, one record a process, from when to when."""
    log = Path(".sid2/gpus") / platform.node() / "leases.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    had = {row["pid"]: row for row in rows if row["event"] == "took" and row["experiment"]}
    for row in rows:
        if row["event"] == "gave back" and row["pid"] in had:
            had[row["pid"]]["until"] = row["time"]
    return list(had.values())


@pytest.mark.slow
def test_three_learning_rates_in_a_queue_share_two_gpus(run):
    for rate in RATES:
        run(f"dvc exp run --queue --set-param train.optimiser.learning_rate={rate} train")
    run("dvc queue start --jobs 2")
    wait(run)

    rates, losses, weights = zip(*results(run), strict=True)
    assert sorted(rates) == sorted(RATES)
    assert len(set(losses)) == len(set(weights)) == len(RATES)

    had = leases()
    assert [row["stage"] for row in had] == ["train"] * len(RATES)
    assert len({row["experiment"] for row in had}) == len(RATES)
    together = [
        (one, other)
        for one, other in combinations(had, 2)
        if one["time"] < other["until"] and other["time"] < one["until"]
    ]
    assert together, "nothing ran side by side, so nothing was tried"
    for one, other in together:
        assert not set(one["gpus"]) & set(other["gpus"])
