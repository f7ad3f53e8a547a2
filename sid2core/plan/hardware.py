"""Peak rate and memory of a device, from its data sheet or measured on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from sid2core.training import peak_flops

GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """One device.

    Attributes:
        name: its name.
        memory: bytes.
        flops: peak rate in multiply-adds per second, in the data type of the computation.
        source: where the rate comes from.
    """

    name: str
    memory: int
    flops: float
    source: str


def h200() -> Hardware:
    """One NVIDIA H200: 141 GB, 989 TFLOP/s in dense bfloat16, two FLOPs per multiply-add."""
    return Hardware("h200", 141 * 10**9, 989e12 / 2, "the data sheet, bfloat16, dense")


def h100() -> Hardware:
    """One NVIDIA H100 SXM: 80 GB, 989 TFLOP/s in dense bfloat16, two FLOPs per multiply-add."""
    return Hardware("h100", 80 * 10**9, 989e12 / 2, "the data sheet, bfloat16, dense")


def cpu() -> Hardware:
    """This machine's processor and memory; the rate is that of a matrix product, measured here."""
    flops = 1e9 * peak_flops.gflops_per_second("float32", 1)
    memory = psutil.virtual_memory().total
    return Hardware("cpu", memory, flops, "float32 matrix product, measured here just now")


HARDWARE: Mapping[str, Callable[[], Hardware]] = {"h100": h100, "h200": h200, "cpu": cpu}
"""The values of ``sid2 plan --hardware``."""
