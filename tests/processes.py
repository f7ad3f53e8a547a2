"""Stages as processes of their own: with many devices, two that work together, or signalled."""

import socket
import subprocess
import sys
import time

from tests import tiny

PATIENCE = 1800
"""Seconds that processes wait for each other at most; a busy machine is slow."""
CACHE_SECONDS = 0.1
"""What took longer to compile is kept.

Without a limit of its size: under a limit, JAX locks the folder and looks at each program in it
whenever it keeps one more, which takes minutes for thousands. A program that another process is
still writing cannot be read; JAX warns and compiles it again.
"""


def environment(compiled, **changes):
    """The environment of stages that keep what they compile in the folder ``compiled``."""
    return tiny.environment(
        JAX_COMPILATION_CACHE_DIR=str(compiled),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=str(CACHE_SECONDS),
        **changes,
    )


def start(stage, folder, compiled, devices=1, **variables):
    """The stage as a process that sees so many devices."""
    changes = environment(compiled, **variables)
    changes["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=changes,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(stage, folder, compiled):
    """Two processes that know the address of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    cluster = {"SID2_COORDINATOR": coordinator, "SID2_PROCESSES": "2"}
    return [
        start(stage, folder, compiled, **cluster, SID2_PROCESS=str(index)) for index in range(2)
    ]


def finish(*processes, code=0):
    """Wait for all to end, each with ``code``; return what each logged."""
    try:
        logs = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [code] * len(processes), logs
    return logs


def checkpoints(folder, stage="train"):
    """The steps whose checkpoints are whole."""
    # Not "**": folders come and go while a checkpoint is written.
    work = folder / ".sid2" / stage
    found = [*work.glob("*/checkpoints/*"), *work.glob("*/*/checkpoints/*")]
    return sorted(int(path.name) for path in found if path.name.isdigit())


def signalled(stage, folder, compiled, goal, number):
    """Run a stage, and signal it once a checkpoint of step ``goal`` or later is there.

    Returns:
        Its exit code and its log.
    """
    with start(stage, folder, compiled) as process:
        deadline = time.monotonic() + PATIENCE
        while max(checkpoints(folder, stage), default=0) < goal and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(number)
        _, log = process.communicate()
    return process.returncode, log
