"""What a device can do at most, by its maker's word or by measuring this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import psutil

GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """One device.

    Attributes:
        name: what it is called.
        memory: bytes.
        flops: multiply-adds a second at most, in the type that is computed in.
        source: how that is known.
    """

    name: str
    memory: int
    flops: float
    source: str


def h200() -> Hardware:
    """One NVIDIA H200: 141 GB, 989 TFLOP/s in dense bfloat16, two FLOPs a multiply-add."""
    return Hardware("h200", 141 * 10**9, 989e12 / 2, "the maker's data sheet, bfloat16, dense")


def cpu() -> Hardware:
    """This machine's processor and memory; its speed is that of a matrix product just measured."""
    size, rounds = 1024, 5
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    seconds = []
    for _ in range(rounds):
        since = time.perf_counter()
        product(a, a).block_until_ready()
        seconds.append(time.perf_counter() - since)
    flops = size**3 / statistics.median(seconds)
    source = f"{size} × {size} float32 matrix product, measured here just now"
    return Hardware("cpu", psutil.virtual_memory().total, flops, source)


HARDWARE: Mapping[str, Callable[[], Hardware]] = {"h200": h200, "cpu": cpu}
"""Each value of ``sid2 plan --hardware``."""
