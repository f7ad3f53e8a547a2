"""What makes the same program run faster on a processor; no result of a stage is decided here.

Two settings, both of which must stand before the process or JAX starts:

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

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

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


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to ``environment``; whatever the user has set there stays."""
    added: dict[str, str] = {}
    if platform.libc_ver()[0] == "glibc":
        added |= {name: value for name, value in _MEMORY.items() if name not in environment}
    flags = environment.get("XLA_FLAGS", "")
    if _CONVOLUTION not in flags and _jaxlib().startswith(_CONVOLUTION_VERSION):
        added["XLA_FLAGS"] = f"{flags} {_CONVOLUTION}={_CONVOLUTION_VALUE}".strip()
    return added


def started(package: str, command: Sequence[str]) -> str:
    """Which module of ``package`` a process was started as: ``python -m package.module``, or ""."""
    modules = [after for word, after in zip(command, command[1:], strict=False) if word == "-m"]
    first, _, module = modules[0].partition(".") if modules else ("", "", "")
    return module if first == package else ""


def start_again(package: str, command: Sequence[str]) -> None:
    """Replace a process that was started as ``python -m package.…`` by one with the settings.

    It keeps its number, its files and its place under DVC. Any other process, and one that has
    the settings already, goes on as it is.
    """
    added = settings(os.environ)
    if added and started(package, command):
        os.environ |= added
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *command[1:]])


def _jaxlib() -> str:
    try:
        return version("jaxlib")
    except PackageNotFoundError:
        return ""
