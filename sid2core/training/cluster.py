"""Several processes as one run: how they find each other, and who writes.

The stage command is the same as for one process. Started by ``srun`` or by Open MPI's ``mpirun``
(``runtime.launcher``, or by hand), or on the hosts of a TPU pod, processes find each other by
``jax.distributed.initialize``'s own detection. Otherwise these variables are needed:

- ``SID2_COORDINATOR``: host and port of process 0, such as ``10.0.0.1:9876``
- ``SID2_PROCESSES``: how many there are
- ``SID2_PROCESS``: which one this is, from 0

All of them see the same files: data, work folder, outputs. Process 0 alone writes outputs and the
log; checkpoints are written by all. Under ``srun`` and ``mpirun`` JAX gives each process one GPU;
``JAX_LOCAL_DEVICE_IDS=0,1,…`` gives it more.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sid2core.errors import Sid2Error
from sid2core.pipeline import processes, workdir
from sid2core.pipeline.artifact import Artifact

_log = logging.getLogger(__name__)
_LAUNCHED = "SID2_LAUNCHED"
_PATIENCE = 60
"""Seconds that a process which ends waits for the others; they may hang where it has failed."""


class ClusterError(Sid2Error):
    """The processes of a run cannot find each other."""


def join(launcher: str = "") -> None:
    """Make this process one of its run; before any other use of JAX.

    Does nothing where there is one process. With a ``launcher`` (``runtime.launcher``) a process
    that was started without one is replaced by it, running the same command.

    Raises:
        ClusterError: the launcher is no command, or the settings are not complete.
    """
    if launcher and not _launched():
        _start_under(launcher)
    settings = _settings(os.environ)
    if settings is None and importlib.util.find_spec("libtpu") is None:
        return
    # JAX's own watch for preemption would catch SIGTERM and do nothing with it here.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**(settings or {}), shutdown_timeout_seconds=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        if settings is None:
            _log.info("no TPU pod (%s): this process is alone", error)
            return
        words = ", ".join(f"{name} {value}" for name, value in settings.items())
        msg = (
            f"cannot join the other processes ({error}; {words or 'as JAX detects them'}): start "
            f"all of them so that they reach process 0, or set {', '.join(processes.GIVEN)}"
        )
        raise ClusterError(msg) from error
    if not first():
        logging.disable(logging.WARNING)  # process 0 says the same


def first() -> bool:
    """Whether this is process 0, which writes outputs and the log."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Wait until all processes are here."""
    multihost_utils.sync_global_devices(name)


@contextmanager
def claim(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Iterator[Path]:
    """:func:`sid2core.pipeline.workdir.claim` for all processes: process 0 holds the lock for them.

    Raises:
        WorkError: another run holds the folder; in every process, so that none waits for ever.
        ArtifactError: in process 0, where another run makes the same artifact.
    """
    place = workdir.folder(stage, workdir.with_code(stage, params), **inputs)
    with _shared(workdir.claim(stage, params, **inputs), stage):
        yield place


@contextmanager
def claim_training(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Iterator[Path]:
    """:func:`sid2core.pipeline.workdir.claim_training` for all processes.

    Raises:
        WorkError: as :func:`claim`; or other code did the work so far.
        ArtifactError: as :func:`claim`.
    """
    with _shared(workdir.claim_training(stage, params, **inputs), stage):
        yield workdir.folder(stage, params, **inputs)


@contextmanager
def _shared(claimed: AbstractContextManager[Path], stage: str) -> Iterator[None]:
    """Enter ``claimed`` in process 0; if that fails, it fails in every process."""
    with ExitStack() as held:
        refusal = None
        if first():
            try:
                held.enter_context(claimed)
            except Sid2Error as error:
                refusal = error
        if not multihost_utils.broadcast_one_to_all(np.int32(refusal is None)):
            raise refusal or workdir.WorkError(
                "process 0 could not begin; its own message says why"
            )
        yield
        wait(f"{stage} is done")


def _settings(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of ``jax.distributed.initialize``; None for a single process.

    Raises:
        ClusterError: not all of ``SID2_COORDINATOR``, … are set, or not to numbers.
    """
    given = processes.given(environment)
    if given:
        return _by_hand(given)
    return {} if processes.several(environment) else None


def _by_hand(given: Mapping[str, str]) -> dict[str, Any]:
    missing = [name for name in processes.GIVEN if name not in given]
    if missing:
        msg = f"{', '.join(given)} set, but not {', '.join(missing)}: set all three, or none"
        raise ClusterError(msg)
    coordinator, count, index = (given[name] for name in processes.GIVEN)
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        msg = f"SID2_PROCESS is {index!r} and SID2_PROCESSES {count!r}; expected 0 … n − 1, and n"
        raise ClusterError(msg)
    return {
        "coordinator_address": coordinator,
        "num_processes": int(count),
        "process_id": int(index),
        # Otherwise JAX also looks for a cluster to find what is missing here.
        "cluster_detection_method": "deactivate",
    }


def _launched() -> bool:
    return any(name in os.environ for name in (*processes.GIVEN, processes.OPEN_MPI, _LAUNCHED))


def _start_under(launcher: str) -> None:
    """Replace this process by ``launcher``, which starts the same command in several processes.

    The process keeps its number and its place under DVC, and signals reach the launcher.
    """
    os.environ[_LAUNCHED] = "1"
    sys.stdout.flush()
    try:
        command = [*shlex.split(launcher), sys.executable, *sys.orig_argv[1:]]
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:  # the latter of quotes that do not close
        msg = f"runtime.launcher: found {launcher!r}, which cannot be run ({error})"
        raise ClusterError(msg) from error
