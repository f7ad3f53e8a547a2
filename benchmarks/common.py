"""What benchmarks share: interleaved timing, models, PyTorch's side, and the results file."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sid2core import config, presets, recipe
from sid2core.models.architecture import UViTConfig
from sid2core.models.network import Network, Parameters

RESULTS = Path("benchmarks/results")
WARM_UP = 2
CEILING = 1536
"""Side of the square matrices whose product is the machine's ceiling."""

Timed = Callable[[], None]


def bare(parser: argparse.ArgumentParser) -> None:
    """The switch that :mod:`benchmarks` itself looks for before JAX starts."""
    parser.add_argument("--bare", action="store_true", help="without sid2core.processor's settings")


def models() -> dict[str, tuple[UViTConfig, int]]:
    """The embedded default, and a 64×64 model of about 5 GFLOPs; each with its batch."""
    params = presets.change(presets.read("digits")).params
    digits = recipe.network(params.model, (8, 8, 1), 10)
    changes = {
        "channels": [64, 128, 256],
        "blocks": ["res", "res", "transformer"],
        "encoder_depth": [2, 2],
        "decoder_depth": [2, 2],
        "mid_depth": 12,
        "dropout": [0.0, 0.0, 0.1],
        "temporal_strides": [1, 1],
        "emb_channels": 256,
        "head_size": 64,
    }
    raw = params.model.model_dump() | changes
    middle = recipe.network(config.Model.model_validate(raw), (64, 64, 3), 10)
    return {"digits": (digits, params.train.batch_size), "64x64": (middle, 8)}


def weights(network: Network) -> Parameters:
    """Random weights of which none is zero, so that no work can be left out."""
    draws = np.random.default_rng(0)
    return {
        name: jnp.asarray(draws.normal(0.0, 0.02, one.shape) + name.endswith("/scale"), jnp.float32)
        for name, one in sorted(network.shapes().items())
    }


def ceiling() -> Timed:
    """A float32 matrix product of ``CEILING`` cubed multiply-adds."""
    a = jnp.ones((CEILING, CEILING), jnp.float32)
    product = jax.jit(jnp.matmul)
    return lambda: product(a, a).block_until_ready()


def interleaved(calls: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round; every round runs all calls once, in turn."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            since = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - since)
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles and minimum, in milliseconds."""
    low, middle, high = statistics.quantiles([1e3 * one for one in seconds], n=4)
    found = {"median": middle, "quartile_1": low, "quartile_3": high, "min": 1e3 * min(seconds)}
    return {f"{name}_ms": round(value, 3) for name, value in found.items()}


def report(name: str, threads: int, rows: Mapping[str, Any]) -> None:
    """Write ``benchmarks/results/<name>-<backend>.json`` and print it."""
    value = {
        "command": f"python -m benchmarks.{name} {' '.join(sys.argv[1:])}".strip(),
        "backend": jax.default_backend(),
        "threads": threads,
        "versions": {one: version(one) for one in ("jax", "jaxlib", "flax", "torch")},
        "results": rows,
    }
    text = json.dumps(value, indent=2) + "\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}-{value['backend']}.json").write_text(text, encoding="utf-8")
    print(text, end="")
