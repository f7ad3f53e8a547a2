"""One small pipeline, run once for all tests of stages."""

import shutil

import pytest
from filelock import FileLock

from tests import tiny
from tests.stages import trainings
from tests.stages.dag import COMPUTED


@pytest.fixture(scope="session")
def finished(shared, tmp_path_factory):
    """A project's root in which every stage but the page has run; not to be changed.

    The first process that asks makes it, for all.
    """
    folder = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not folder.exists():
            made = tmp_path_factory.mktemp("unfinished")
            _finish(made)
            made.rename(folder)
    return folder


def _finish(folder):
    tiny.write(folder)
    trainings.run(folder, *COMPUTED)
    # Finished work is kept until DVC records it; a repeated run must do it again.
    shutil.rmtree(folder / ".sid2")


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of it, the current folder: for runs that are repeated, stopped or harmed."""
    shutil.copytree(finished, tmp_path / "project")
    for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"
