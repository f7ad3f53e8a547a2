"""The gradient of a 3×3 convolution inside a loop and outside, plain and as the network has it.

    python -m benchmarks.convolution [--rounds 9]

On CPU XLA runs the plain gradient 20 to 40 times slower inside ``scan``; ours costs the same there
as outside (sid2core/models/convolution.py).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import common
from sid2core.models.convolution import convolve
from sid2core.typing import Array

DEPTH = 3
NUMBERS = ("NHWC", "HWIO", "NHWC")
SHAPES = {"8 x 8, 32 channels": (64, 8, 32), "32 x 32, 64 channels": (8, 32, 64)}


def gradient(convolution: Callable[..., Array], loop: bool) -> Callable[[Array, Array], Any]:
    """The gradient through ``DEPTH`` convolutions in a row, written out or as a loop."""

    def layer(h: Array, kernel: Array) -> tuple[Array, None]:
        return jnp.sin(convolution(h, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)), None

    def loss(x: Array, kernels: Array) -> Array:
        if loop:
            return jnp.sum(jax.lax.scan(layer, x, kernels)[0])
        for kernel in kernels:
            x, _ = layer(x, kernel)
        return jnp.sum(x)

    return jax.jit(jax.grad(loss, (0, 1)))


def measure(batch: int, size: int, channels: int, rounds: int) -> dict[str, Any]:
    """Medians of the four ways and what a loop costs in each."""
    x = jax.random.normal(jax.random.key(0), (batch, size, size, channels))
    kernels = 0.05 * jax.random.normal(jax.random.key(1), (DEPTH, 3, 3, channels, channels))
    ways = {"plain": jax.lax.conv_general_dilated, "ours": convolve}
    calls = {}
    for name, way in ways.items():
        for place, loop in (("outside", False), ("in_loop", True)):
            call = gradient(way, loop)
            calls[f"{name}_{place}"] = partial(
                lambda call: jax.block_until_ready(call(x, kernels)), call
            )
    seconds = common.interleaved(calls, rounds)
    rows: dict[str, Any] = {name: common.summary(one) for name, one in seconds.items()}
    for name in ways:
        pairs = zip(seconds[f"{name}_in_loop"], seconds[f"{name}_outside"], strict=True)
        rows[f"{name}_loop_over_outside"] = round(statistics.median(a / b for a, b in pairs), 2)
    return rows


def main() -> None:
    """Measure every shape and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    common.bare(parser)
    options = parser.parse_args()
    rows = {name: measure(*shape, options.rounds) for name, shape in SHAPES.items()}
    common.report("convolution", jax.local_device_count(), rows)


if __name__ == "__main__":
    main()
