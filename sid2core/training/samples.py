"""Images of the model in training, with the same noise each time."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core import atomic, checksums, conditioning, config, rng
from sid2core.conditioning import Condition
from sid2core.config import build
from sid2core.data import encode
from sid2core.diffusion.guidance import NoGuidance
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.generator import Generator, Method
from sid2core.training import cluster
from sid2core.training.base import Objective
from sid2core.training.mesh import Layout

ROWS, COLUMNS = 4, 8
COUNT = ROWS * COLUMNS
"""Images of a grid. Of clips there are ``ROWS``, one a row."""


@dataclass(frozen=True)
class Samples:
    """Draws a grid from the EMA's weights, without guidance, into ``<step>.png`` of two folders.

    Attributes:
        method: how images are drawn.
        conditions: those of the :data:`COUNT` images, asked for each time.
        seed: of the noise.
        layout: where the weights are.
        kept: a folder that survives a kill, as the checkpoints do.
        shown: the folder that people look at; :meth:`restore` fills it again after a kill.
    """

    method: Method
    conditions: Callable[[], Condition]
    seed: int
    layout: Layout
    kept: Path
    shown: Path

    def restore(self) -> None:
        """Show what this run has drawn so far, and nothing from another run."""
        if not cluster.first():
            return
        shutil.rmtree(self.shown, ignore_errors=True)
        for path in sorted(self.kept.glob("*.png")):
            if checksums.whole(path):
                atomic.write_bytes(self.shown / path.name, path.read_bytes())

    def __call__(self, step: int, state: Mapping[str, Any]) -> None:
        """Draw from ``state["ema"]``; of several processes, the first one draws."""
        weights = self.layout.host(state["ema"])
        if not cluster.first():
            return
        count = ROWS if self.method.denoiser.network.config.is_video else COUNT
        stream = rng.key(self.seed, "train/samples")
        condition = conditioning.taken(self.conditions(), slice(count))
        generator = Generator(self.method, weights, count)
        images = generator.images(stream, np.arange(count), condition)
        content = png(images)
        for folder in (self.kept, self.shown):
            atomic.write_bytes(folder / f"{step}.png", content)
        checksums.seal(self.kept / f"{step}.png")


def method(objective: Objective, sampling: config.Sampling) -> Method:
    """How the section ``sampling`` draws from the model in training, without guidance."""
    return Method(
        Denoiser(objective.network, objective.prediction),
        objective.schedule,
        build.sampler(sampling),
        NoGuidance(),
        sampling.steps,
        build.clip_x(sampling),
    )


def png(images: NDArray[np.uint8]) -> bytes:
    """A grid of ``ROWS`` by ``COLUMNS`` images [n, h, w, c].

    Of a clip [n, f, h, w, c] a row has frames at equal distances, from the first to the last.
    Images below 32 pixels are enlarged by a whole factor.
    """
    if images.ndim == 5:
        images = images[:, np.linspace(0, images.shape[1] - 1, COLUMNS).round().astype(int)]
        images = images.reshape(-1, *images.shape[2:])
    _, height, width, channels = images.shape
    grid = images.reshape(ROWS, COLUMNS, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(ROWS * height, COLUMNS * width, channels)
    factor = max(1, 32 // max(height, width))
    grid = grid.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    encode.picture(grid).save(buffer, format="PNG")
    return buffer.getvalue()
