"""Every long stage, killed under every way that DVC has to run it.

    python -m pytest -m slow tests/test_dvc_killed.py

Each stage is killed three times: the stage alone, all processes at once (a power cut), and DVC
alone, whose stage then ends as an orphan. After each kill the same command is given again. In the
end all artifacts and reports must have the bytes of an undisturbed run.
"""

import pytest

from tests import dvc_project, tiny
from tests.killing import COMMANDS, LONG, PATIENCE_S, kill, rescue, tree, wait, work, written

KILLED = ("stage", "everything", "dvc")
SIZES = {
    "data": {"shard_records": 128, "row_group_records": 128},
    "train": {"steps": 60},
    "guidance_search": {"weights": [0.5, 1.0, 2.0, 3.0, 4.0]},
    "distill": {"iterations": 40},
    "runtime": {"log_every": 7, "checkpoint_every": 4},
}
"""Enough work for three kills a stage; checkpoints fall between rows of the log."""
EDITED = "An edit that is not committed.\n"


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes a project with one commit and one edit that is not committed."""
    compiled = tmp_path_factory.mktemp("compiled")

    def made(name):
        folder = tmp_path_factory.mktemp(name) / "project"
        project = dvc_project.copy(folder, JAX_COMPILATION_CACHE_DIR=str(compiled))
        tiny.write(folder, **SIZES)
        project.commit()
        with (folder / "README.md").open("a", encoding="utf-8") as file:
            file.write(EDITED)
        return project

    return made


@pytest.fixture(scope="module")
def calm(make):
    """What an undisturbed run writes."""
    project = make("calm")
    project.run("dvc repro")
    return written(project)


def killed(project, stage, target, command):
    """Kill ``target`` once the stage has added to its work; returns when all has ended."""
    before = work(project, stage)

    def added():
        new = work(project, stage) - before
        # The command that starts a queue does not wait for it.
        assert new or "queue" in command.args or command.poll() is None, f"{stage} was not killed"
        return new

    wait(added, f"work of {stage}")
    own = tree(project, stage)
    if target == "stage":
        kill(own)
    else:
        kill(set(project.processes()) - ({*own} if target == "dvc" else set()))
    wait(lambda: not project.processes(), f"the end of all processes of {stage}")
    assert command.wait() != 0 or "queue" in command.args
    if target != "dvc":
        finished = [*project.folder.glob(f".sid2/{stage}/*/finished.json")]
        assert not finished, f"{stage} had ended before it was killed"


@pytest.mark.slow
@pytest.mark.parametrize("mode", COMMANDS)
def test_killed_in_every_stage_it_ends_with_the_same_bytes(mode, make, calm, tmp_path):
    project, log = make("killed"), tmp_path / "log"

    *before, last = COMMANDS[mode]

    def start():
        for line in before:
            project.run(line)
        return project.start(last, log)

    for stage in LONG:
        for target in KILLED:
            killed(project, stage, target, start())
            if mode == "exp run":
                rescue(project)
    assert start().wait(PATIENCE_S) == 0, log.read_text(encoding="utf-8")
    wait(lambda: not project.processes(), "the end of all processes")

    if mode != "repro":
        (experiment,) = project.experiments()
        project.run(f"dvc exp apply {experiment.rpartition('/')[2]}")
    assert project.run("git symbolic-ref HEAD") == "refs/heads/main\n"
    assert (project.folder / "README.md").read_text(encoding="utf-8").endswith(EDITED)
    found = written(project)
    assert [*found] == [*calm]
    assert [name for name in calm if found[name] != calm[name]] == []
