"""Stages as a user runs them: as processes, which may be signalled at any moment."""

import subprocess
import sys
import time

from tests import tiny


def start(stage, folder, compiled, **changes):
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=tiny.environment(JAX_COMPILATION_CACHE_DIR=str(compiled), **changes),
        stderr=subprocess.PIPE,
        text=True,
    )


def run(stage, folder, compiled):
    """Run a stage to its good end; returns its log."""
    with start(stage, folder, compiled) as process:
        _, log = process.communicate()
    assert process.returncode == 0, log
    return log


def checkpoints(folder, stage="train"):
    """The steps whose checkpoints are whole."""
    found = folder.glob(f".sid2/{stage}/**/checkpoints/*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


def signalled(stage, folder, compiled, goal, number):
    """Run a stage, and signal it once a checkpoint of step ``goal`` or later is there.

    Returns:
        Its exit code and its log.
    """
    with start(stage, folder, compiled) as process:
        deadline = time.monotonic() + 120
        while max(checkpoints(folder, stage), default=0) < goal and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(number)
        _, log = process.communicate()
    return process.returncode, log
