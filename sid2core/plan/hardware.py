"""Peak rate and memory of a device, from its data sheet or measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Sheet:
    """What a maker states of a device.

    Attributes:
        memory: gigabytes, 10⁹ bytes.
        teraflops: in dense bfloat16, two FLOPs per multiply-add.
        maker: whose data sheet it is.
        fused_attention: whether ``runtime.attention`` has a kernel that keeps no token × token
            matrix (cuDNN's).
    """

    memory: int
    teraflops: float
    maker: str
    fused_attention: bool = True

    def named(self, name: str) -> Hardware:
        """The device by its name."""
        source = f"{self.maker}'s data sheet, bfloat16, dense"
        return Hardware(name, self.memory * 10**9, self.teraflops * 1e12 / 2, source)


SHEETS: Mapping[str, Sheet] = {
    "a100": Sheet(80, 312, "NVIDIA"),  # A100 80GB SXM
    "h100": Sheet(80, 989, "NVIDIA"),  # H100 SXM; the sheet's 1,979 is with sparsity
    "h200": Sheet(141, 989, "NVIDIA"),  # H200 SXM
    "b200": Sheet(180, 2250, "NVIDIA"),  # one of eight in an HGX B200; 36 PFLOP/s are with sparsity
    "tpu-v5e": Sheet(16, 197, "Google", fused_attention=False),  # Cloud TPU documentation, per chip
    "tpu-v5p": Sheet(95, 459, "Google", fused_attention=False),
    "tpu-v6e": Sheet(32, 918, "Google", fused_attention=False),
}
"""Devices by the value of ``sid2 plan --hardware``."""


def cpu() -> Hardware:
    """This machine's processor and memory; the rate is that of a matrix product, measured here."""
    import psutil

    from sid2core.training import peak_flops  # imports JAX

    flops = 1e9 * peak_flops.gflops_per_second("float32", 1)
    memory = psutil.virtual_memory().total
    return Hardware("cpu", memory, flops, "float32 matrix product, measured here just now")


def hardware(name: str) -> Hardware:
    """The device with a name of :data:`SHEETS`, or ``cpu``."""
    return cpu() if name == "cpu" else SHEETS[name].named(name)


def attention(name: str) -> str | None:
    """The implementation of attention whose memory counts on a device.

    cuDNN's keeps as much as the recomputed one. None is what ``runtime.attention`` selects here,
    which is the same without cuDNN.
    """
    if name == "cpu":
        return None
    return "recomputed" if SHEETS[name].fused_attention else None
