"""The peak rate of the devices, measured by a large matrix product."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp

_SIZE, _ACCELERATORS_SIZE = 2048, 8192
"""Side of the matrices: large enough to reach the peak, small enough to take a moment."""
_TRIALS = 3


def gflops_per_second(dtype: str, devices: int) -> float:
    """Multiply-adds a second, in 10⁹, of ``devices`` devices like this process's first one.

    The devices of a CPU share its cores, so there the rate is that of the CPU for each process.
    """
    one = _of_first_device(dtype)
    shared = jax.local_devices()[0].platform == "cpu"
    return one * (jax.process_count() if shared else devices)


@functools.cache
def _of_first_device(dtype: str) -> float:
    """The best of a few trials: other load can only slow them down."""
    device = jax.local_devices()[0]
    size = _SIZE if device.platform == "cpu" else _ACCELERATORS_SIZE
    product = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
    a = jax.device_put(jnp.ones((size, size), dtype), device)
    jax.block_until_ready(product(a))
    seconds = []
    for _ in range(_TRIALS):
        since = time.perf_counter()
        jax.block_until_ready(product(a))
        seconds.append(time.perf_counter() - since)
    return size**3 / 1e9 / min(seconds)
