"""How the process of a stage starts: with settings that make the same program run faster.

No result of a stage is decided here. Two settings must be there before the process or JAX starts:

- glibc gives freed memory back to the system and faults it in again at every step. Told to keep it,
  and to ask for huge pages, a train step takes 0.7 to 0.8 of the time. One arena is part of it:
  those of threads hold 64 MiB at most, so XLA's threads would still map every larger buffer anew,
  whatever the other settings say (on a virtual machine that took its idle pages back, 0.8 s a step
  of 3).
- jaxlib 0.10 has two convolutions; the older is faster at this project's sizes. (Rounding differs,
  so this is set for every run of that version, not for some.)

``python -m benchmarks.train_step`` measures with both ("ours") and without ("as jax comes").
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Mapping

from sid2core import console

_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
_CONVOLUTION = "--xla_cpu_experimental_ynn_fusion_type"
_CONVOLUTION_VALUE = "-individual_convolution,-individual_dot"
_CONVOLUTION_VERSION = "0.10."
"""An unknown flag ends the process, so only the version that was measured gets it."""
QUICK = ("code", "params", "source")
"""Stages that compute nothing: they check parameters, hash code, list files."""


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to ``environment``; whatever the user has set there stays."""
    added: dict[str, str] = {}
    if platform.libc_ver()[0] == "glibc":
        added |= {name: value for name, value in _MEMORY.items() if name not in environment}
    flags = environment.get("XLA_FLAGS", "")
    if _CONVOLUTION not in flags and _jaxlib().startswith(_CONVOLUTION_VERSION):
        added["XLA_FLAGS"] = f"{flags} {_CONVOLUTION}={_CONVOLUTION_VALUE}".strip()
    return added


def prepare(stage: str) -> None:
    """Make this process, ``python -m stages.<stage>``, ready; before it imports JAX.

    It is replaced by itself with the settings above, takes a GPU where several experiments share a
    machine (:mod:`sid2core.pipeline.gpu_lease`), and sets where JAX keeps compiled programs:
    what one stage compiled serves the next, and a resumed run.
    """
    console.prepare()
    if importlib.util.find_spec("jax") is None:
        sys.exit(
            f"{sys.executable} has no jax: activate the project's environment "
            "(`make setup`, then `source .venv/bin/activate`) and run the command again"
        )
    if stage in QUICK:
        return
    start_again()

    from sid2core.errors import Sid2Error, of_system
    from sid2core.pipeline import gpu_lease, places

    # Here, so that the lease is of the process that computes.
    try:
        gpu_lease.take(stage)
    except Sid2Error as error:
        sys.exit(f"{stage}: {error}")
    except OSError as error:
        line = of_system(error)
        if line is None:
            raise
        sys.exit(f"{stage}: {line}")
    compiled = str((places.work() / "compiled").absolute())
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def start_again() -> None:
    """Replace this process by one with the settings, unless it has them.

    It keeps its number, its files and its place under DVC.
    """
    added = settings(os.environ)
    if added:
        os.environ |= added
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _jaxlib() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version("jaxlib")
    except PackageNotFoundError:
        return ""
