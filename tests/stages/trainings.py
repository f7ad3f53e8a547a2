"""Training in projects of their own: one undisturbed, and others that are before it."""

import shutil

import pytest

from sid2core import config
from stages import prepare, text
from tests import processes, tiny


def undisturbed(folder, compiled, sections):
    """A project of these sections, in which one process with one device trains; returns its log."""
    tiny.write(folder, **sections)
    run(folder, prepare, text)
    (log,) = processes.finish(processes.start("train", folder, compiled))
    return log


def run(folder, *stages):
    """Run stages in this process, as a user's commands in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        for stage in stages:
            stage.main(config.read())


def before(trained, folder, sections, **runtime):
    """Another project of these sections, as ``trained`` was before its training."""
    for name in ("prepare", "text"):
        shutil.copytree(trained / "artifacts" / name, folder / "artifacts" / name)
    tiny.write(folder, **sections | {"runtime": sections["runtime"] | runtime})
    return folder
