"""Loss curves of bfloat16 and of float32, which should differ by less than two seeds do.

    python -m benchmarks.precision [--steps 200] [--seeds 4] [--tiny]

The network of ``params.yaml`` is trained on the digits in both precisions, from several seeds. A
seed decides initial weights, noise, times and the order of images, the same in both precisions. A
curve is the mean loss of every ``WINDOW`` steps.

The statistic is d(precision) / d(seed), each the root mean square of a difference of curves over
windows: between the precisions of one seed, averaged over seeds, and between two seeds in float32,
averaged over pairs. The precisions agree within noise where it is below 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from sid2core import atomic

WINDOW = 20
BATCH = 64
DTYPES = ("float32", "bfloat16")
Curves = Mapping[str, Sequence[NDArray[np.float64]]]
"""By precision: one curve for each seed."""


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="one block of 8 channels")
    parser.add_argument("--folder", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    if options.seeds < 2 or options.steps < WINDOW:
        parser.error(f"two seeds and {WINDOW} steps are the least to compare")

    from benchmarks import ours

    curves = {
        dtype: [curve(seed, dtype, options.steps, options.tiny) for seed in range(options.seeds)]
        for dtype in DTYPES
    }
    found = compared(curves)
    content = {
        "command": common.command("precision"),
        "commit": common.commit(),
        "python": platform.python_version(),
        **ours.describe(),
        "steps": options.steps,
        "window": WINDOW,
        "results": found,
        "curves": {
            dtype: [np.round(one, 6).tolist() for one in some] for dtype, some in curves.items()
        },
    }
    path = options.folder / f"precision-{content['platform']}.json"
    atomic.write_json(path, content)
    print(json.dumps(found, indent=2))
    print(path)


def compared(curves: Curves) -> dict[str, float | bool]:
    """The statistic and its parts."""
    exact, rounded = (curves[dtype] for dtype in DTYPES)
    precision = np.mean([_rms(a - b) for a, b in zip(exact, rounded, strict=True)])
    seed = np.mean([_rms(a - b) for a, b in itertools.combinations(exact, 2)])
    ratio = float(precision / seed)
    return {
        "between_precisions": round(float(precision), 6),
        "between_seeds": round(float(seed), 6),
        "ratio": round(ratio, 4),
        "within_noise": ratio < 1,
    }


def _rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def curve(seed: int, dtype: str, steps: int, tiny: bool) -> NDArray[np.float64]:
    """The mean loss of every window of a training on the digits."""
    import jax
    from sklearn.datasets import load_digits

    from sid2core import config
    from sid2core.conditioning import Condition
    from sid2core.data.load.loader import Batch
    from sid2core.models.network import Network
    from sid2core.training.base import base_run, objective_of

    network = common.tiny(dtype) if tiny else common.models(dtype)["digits 8x8"]
    params = config.read()
    objective = objective_of(params.diffusion, Network(network), params.train.condition_dropout)
    no_loader: Any = None  # the batches are made here
    run = base_run(objective, params.train, no_loader, seed)
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    draws, state, losses = np.random.default_rng(seed), run.init(), []
    for index in range(steps):
        rows = draws.integers(0, len(images), BATCH)
        condition = Condition(label=digits.target[rows].astype(np.int32))
        state, scalars = run.step(state, Batch(images[rows], condition), index)
        losses.append(scalars["loss"])
    whole = np.asarray(jax.device_get(losses), np.float64)[: steps // WINDOW * WINDOW]
    found: NDArray[np.float64] = whole.reshape(-1, WINDOW).mean(1)
    return found


if __name__ == "__main__":
    main()
