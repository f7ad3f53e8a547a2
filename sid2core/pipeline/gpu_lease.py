"""Leases: which GPU a stage computes on where several experiments share a machine.

DVC runs queued experiments side by side and hands out no GPU, so each would take all of them. With
``SID2_GPUS=0,1`` in the environment a stage takes one of these for itself, before JAX is imported,
and waits while none is free; ``SID2_GPUS=0+1,2+3`` hands out pairs.

A lease is a lock of the operating system on one file a GPU, so it ends with the process, however
that ends. Each machine has a folder of its own in the work folder, which may lie on a disk that
several share; the log beside the locks records who had which GPU, and when.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from filelock import lock_descriptor

from sid2core.errors import Sid2Error
from sid2core.pipeline import places, processes

WITHOUT_DEVICE = frozenset({"code", "params", "source", "prepare", "report"})
"""Stages that never import JAX; any other takes a lease."""

POLL_S = 0.5
_GPU = re.compile(r"0|[1-9]\d*|(GPU|MIG)-[0-9A-Za-z-]+")
_NVIDIA = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver is loaded: one entry a GPU."""

Group = tuple[str, ...]


class LeaseError(Sid2Error):
    """``SID2_GPUS`` does not say which GPUs there are to hand out."""


def folder() -> Path:
    """Where this machine's locks lie, and the log ``leases.jsonl``."""
    return (places.work() / "gpus" / platform.node()).absolute()


def take(stage: str) -> None:
    """Show this process one free GPU, or group, of ``SID2_GPUS``; wait while there is none.

    The lease is kept as long as the process lives. Nothing happens where the variable is unset or
    empty, or where the stage has no use for a device.

    Raises:
        LeaseError: the variable's value cannot be meant.
    """
    value = os.environ.get("SID2_GPUS", "")
    if not value or stage in WITHOUT_DEVICE:
        return
    choice = groups(value)
    _check([name for group in choice for name in group])
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    since = time.monotonic()
    if (group := _first_free(choice, place)) is None:
        _say(stage, f"waiting, no GPU of SID2_GPUS={value} is free; {place}/leases.jsonl shows why")
    while group is None:
        time.sleep(POLL_S)
        group = _first_free(choice, place)
    _record("took", stage, group, place)
    # The lock outlives this: the system ends it with the process, when the GPU is really free.
    atexit.register(_record, "gave back", stage, group, place)
    _say(stage, f"GPU {'+'.join(group)} of SID2_GPUS={value}, {time.monotonic() - since:.0f} s")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(group)  # AMD's runtime reads it, too
    # As nvidia-smi numbers them. CUDA would put the fastest first.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def groups(value: str) -> list[Group]:
    """What ``SID2_GPUS`` hands out: ``"0+1,2+3"`` → ``[("0", "1"), ("2", "3")]``.

    Raises:
        LeaseError: something else than names of GPUs, or one of them twice.
    """
    found = [tuple(group.split("+")) for group in value.split(",")]
    names = [name for group in found for name in group]
    if not all(_GPU.fullmatch(name) for name in names):
        msg = (
            f"SID2_GPUS is {value!r}; expected GPUs as `nvidia-smi -L` numbers or names them, "
            "such as 0,1 for one a run, or 0+1,2+3 for two"
        )
        raise LeaseError(msg)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"SID2_GPUS is {value!r} and has {', '.join(twice)} twice; name each GPU once"
        raise LeaseError(msg)
    return found


def _check(names: list[str]) -> None:
    """Refuse GPUs that are not there, since JAX would go on without, and processes of a cluster."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (hidden := sorted(set(names) - set(visible.split(",")))):
        msg = (
            f"SID2_GPUS has {', '.join(hidden)}, which CUDA_VISIBLE_DEVICES={visible!r} hides; "
            "name GPUs among those, or unset CUDA_VISIBLE_DEVICES"
        )
        raise LeaseError(msg)
    count = len(list(_NVIDIA.iterdir())) if _NVIDIA.is_dir() else 0
    absent = [name for name in names if name.isdecimal() and int(name) >= count]
    if count and absent:
        msg = f"SID2_GPUS has {', '.join(absent)}; this machine's GPUs are 0 to {count - 1}"
        raise LeaseError(msg)
    if variable := processes.several(os.environ):
        msg = (
            f"SID2_GPUS hands out GPUs to runs of one process, and {variable} is "
            f"{os.environ[variable]}; unset SID2_GPUS, the launcher places its processes"
        )
        raise LeaseError(msg)


def _first_free(choice: list[Group], place: Path) -> Group | None:
    """The first group that could be locked."""
    return next((group for group in choice if _lock(group, place)), None)


def _lock(group: Group, place: Path) -> bool:
    """Lock every GPU of a group, or none.

    A lease's descriptors stay open for good. They are numbers, so that Python has nothing to clear
    away at its end, while JAX may still have the GPU's memory.
    """
    descriptors = []
    for name in sorted(group):  # one order for all: of two that meet, one goes on
        descriptors.append(os.open(place / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o666))
        if not lock_descriptor(descriptors[-1], blocking=False):
            for descriptor in descriptors:
                os.close(descriptor)
            return False
    return True


def _record(event: str, stage: str, group: Group, place: Path) -> None:
    """Add a line to the log. A process that is killed gives nothing back, and its lease ends."""
    row = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "event": event,
        "gpus": list(group),
        "stage": stage,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "pid": os.getpid(),
    }
    with (place / "leases.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _say(stage: str, what: str) -> None:
    """In the form of the stage's own log, which is not set up yet."""
    print(f"{stage}: {what}", file=sys.stderr, flush=True)
