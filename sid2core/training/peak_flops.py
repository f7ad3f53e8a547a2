"""What the devices can do at most, measured: the rate of a large matrix product."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp

_SIZE, _ACCELERATORS_SIZE = 2048, 8192
"""Large enough that nothing but the product counts, small enough to be done in a moment."""
_TRIALS = 3


def gflops_per_second(dtype: str, devices: int) -> float:
    """Multiply-adds a second, in 10⁹, of ``devices`` devices like this process's first one.

    The devices of a processor are shares of it, so there it is the processor's, once a process.
    """
    one = _of_first_device(dtype)
    shared = jax.local_devices()[0].platform == "cpu"
    return one * (jax.process_count() if shared else devices)


@functools.cache
def _of_first_device(dtype: str) -> float:
    """The best of a few trials: what disturbs them can only slow them down."""
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
