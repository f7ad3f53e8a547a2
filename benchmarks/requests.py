"""Drawing by a request, step by step with a progress bar, beside drawing as ``evaluate`` does.

    python -m benchmarks.requests [--model artifacts/train] [--count 64]

Both draw the same images with the same weights; the ratio is of seconds for all of them.
"""

from __future__ import annotations

from typing import Any

import jax
import jaxlib
import numpy as np

from benchmarks import common
from benchmarks.common import Contender, Work
from sid2core import rng
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import ConstantGuidance
from sid2core.diffusion.samplers import DDPM
from sid2core.inference.generator import Generator
from sid2core.inference.public import load_model
from sid2core.inference.request import Request
from sid2core.pipeline import progress

REFERENCE, STEPS, WEIGHT = "evaluate", 32, 0.5


def generator(folder: str, count: int) -> Work:
    """``count`` images in one batch, in the compiled loop."""
    trained = load_model(folder).trained
    guidance = ConstantGuidance(WEIGHT)
    method = trained.method(DDPM(), guidance, STEPS, clip_x=StaticClip())
    drawer, condition = Generator(method, trained.params, count), trained.condition.asked(count)

    def draw() -> None:
        drawer.images(rng.key(0, "sample"), np.arange(count), condition)

    return draw


def request(folder: str, count: int) -> Work:
    """The same by :meth:`Model.draw`, with a bar."""
    model = load_model(folder)
    asked = Request.of(model=folder, count=count, steps=STEPS, guidance=WEIGHT)

    def draw() -> None:
        with progress.bar(STEPS, "draw", "step", shown=False) as bar:
            model.draw(asked, lambda step, steps, x_hat: bar.update(1))

    return draw


def describe() -> dict[str, Any]:
    """What it ran on."""
    platform = jax.devices()[0].platform
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "platform": platform}


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=5)
    parser.add_argument("--model", default="artifacts/train")
    parser.add_argument("--count", type=int, default=64)
    options = parser.parse_args()
    how = {"folder": options.model, "count": options.count}
    field = [
        Contender(REFERENCE, "benchmarks.requests:generator", how, tuned=True),
        Contender("request", "benchmarks.requests:request", how),
    ]
    seconds, metadata = common.race(field, options.rounds, options.threads)
    rows = common.summary(seconds, REFERENCE)
    title = f"{options.count} images"
    common.show(f"{title}, ms", rows, REFERENCE)
    common.write("requests", metadata | {"threads": options.threads}, {title: rows})


if __name__ == "__main__":
    main()
