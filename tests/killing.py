"""Stages that are killed under DVC: its commands, and how far a stage is."""

import os
import re
import subprocess
import time
from pathlib import Path

import psutil

from tests import tiny

COMMANDS = {
    "repro": ["dvc repro"],
    "exp run": ["dvc exp run"],
    "exp run --temp": ["dvc exp run --temp"],
    "queue": ["dvc exp run --queue", "dvc queue start"],
}
"""Ways to run the pipeline; the last command of each is the one that is killed."""
LONG = ("prepare", "reference", "train", "guidance_search", "distill", "evaluate")
PATIENCE_S = 300


def written(project):
    """All artifacts and reports, without locks and without the page, which quotes seconds."""
    files = tiny.snapshot(project.folder, "")
    return {
        name: content
        for name, content in files.items()
        if not name.endswith(".lock") and name != "reports/index.html"
    }


def wait(condition, what, patience=PATIENCE_S):
    """Until ``condition`` returns something true, which is returned."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience} s"
        time.sleep(0.005)
    return value


def work(project, stage):
    """What shows how far a stage is: files of unfinished work and drafts of its artifact."""
    places = ("", ".dvc/tmp/exps/*/", ".dvc/tmp/exps/standalone/*/")
    drafts = [
        one for place in places for one in project.folder.glob(f"{place}artifacts/.{stage}.draft")
    ]
    # Not Path.glob: folders come and go while a checkpoint is written.
    walked = [*os.walk(project.folder / ".sid2" / stage), *os.walk(project.folder / ".sid2/drawn")]
    files = [Path(folder) / name for folder, _, names in walked for name in names]
    return {
        (one, _modified(one))
        for one in [*drafts, *files]
        if ".json" not in one.name and ".orbax-checkpoint-tmp" not in str(one)
    }


def _modified(path):
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def kill(processes):
    for one in processes:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def running(project):
    """The stages that have a process."""
    words = {word for one in project.processes() for word in _command(one)}
    return {word.removeprefix("stages.") for word in words if word.startswith("stages.")}


def tree(project, stage):
    """The processes of a stage."""
    own = [one for one in project.processes() if f"stages.{stage}" in _command(one)]
    return [*own, *(child for one in own for child in one.children(recursive=True))]


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []


def rescue(project):
    """What docs/resume.md says for a killed `dvc exp run`."""
    text = (tiny.ROOT / "docs/resume.md").read_text(encoding="utf-8")
    commands = re.search(r"## After a killed `dvc`.*?```sh\n(.*?)```", text, re.DOTALL)[1]
    subprocess.run(["sh", "-ec", commands], cwd=project.folder, env=project.environment, check=True)
