"""Training in projects of their own: one undisturbed, and others that are before it."""

import shutil
import subprocess
import sys

from tests import processes, tiny


def undisturbed(folder, compiled, sections):
    """Write a project of these sections, in which one process with one device trains."""
    tiny.write(folder, **sections)
    for stage in ("prepare", "text"):
        command = [sys.executable, "-m", f"stages.{stage}"]
        subprocess.run(command, cwd=folder, env=tiny.environment(), check=True)
    processes.finish(processes.start("train", folder, compiled))
    return folder


def before(trained, folder, sections, **runtime):
    """Another project of these sections, as ``trained`` was before its training."""
    for name in ("prepare", "text"):
        shutil.copytree(trained / "artifacts" / name, folder / "artifacts" / name)
    tiny.write(folder, **sections | {"runtime": sections["runtime"] | runtime})
    return folder
