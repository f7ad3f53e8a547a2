"""Changed files of the data under DVC itself: `pytest -m slow tests/test_dvc_source.py`."""

import os
import re
import shutil
import time

import psutil
import pytest

from tests import captioned, dvc_project

pytestmark = pytest.mark.slow
PATIENCE_S = 300


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of captioned images beside it, in which `text` has run and is committed."""
    root = tmp_path_factory.mktemp("source")
    data = captioned.write(root, count=24)
    made = dvc_project.copy(root / "project")
    shutil.move(data / "params.yaml", made.folder / "params.yaml")
    made.commit()
    made.run("dvc repro text")
    committed(made)
    return made


@pytest.fixture
def images(project):
    """Where the images and captions are."""
    return project.folder.parent / "images"


def committed(project):
    project.run("git commit --quiet --all --allow-empty --message=ran")


def ran(project, command="dvc repro text"):
    """The stages that a command ran."""
    return set(re.findall(r"Running stage '(\w+)'", project.run(command)))


def test_without_a_change_only_source_runs_and_git_stays_clean(project):
    assert ran(project) == {"source"}
    assert project.run("git status --porcelain") == ""
    assert project.run("dvc status source prepare text").split() == ["source:", "always", "changed"]


def test_a_changed_caption_runs_what_depends_on_captions(project, images):
    before = project.run("git rev-parse HEAD:dvc.lock")
    (images / "3.txt").write_text("a square of another colour\n", encoding="utf-8")
    assert ran(project) == {"source", "prepare", "text"}
    committed(project)
    assert project.run("git rev-parse HEAD:dvc.lock") != before
    assert ran(project) == {"source"}


def test_another_time_prepares_again_and_nothing_else(project, images):
    os.utime(images / "3.png")
    assert ran(project) == {"source", "prepare"}
    committed(project)


def test_an_experiment_elsewhere_sees_a_change_too(project, images):
    (images / "4.txt").write_text("a square that was green\n", encoding="utf-8")
    assert ran(project, "dvc exp run --temp text") == {"source", "prepare", "text"}
    printed = project.run("dvc repro text")
    for stage in ("prepare", "text"):
        assert f"Stage '{stage}' is cached" in printed, "here, too: the run cache has the result"
    committed(project)


@pytest.mark.parametrize("command", ["dvc repro text", "dvc exp run --temp text"])
def test_data_that_are_away_count_as_unchanged(project, images, command):
    images.rename(images.with_name("away"))
    try:
        assert ran(project, command) == {"source"}
    finally:
        images.with_name("away").rename(images)
    assert ran(project) == {"source"}


def test_a_change_is_seen_after_a_kill(project, images, tmp_path):
    (images / "5.txt").write_text("a square that was blue\n", encoding="utf-8")
    process = project.start("dvc repro text", tmp_path / "log")
    deadline = time.monotonic() + PATIENCE_S
    while not (found := [one for one in project.processes() if _is_source(one)]):
        assert time.monotonic() < deadline
    found[0].kill()
    assert process.wait(PATIENCE_S) != 0
    assert ran(project) == {"source", "prepare", "text"}
    committed(project)
    assert ran(project) == {"source"}


def _is_source(process):
    try:
        return "stages.source" in process.cmdline()
    except psutil.Error:
        return False
