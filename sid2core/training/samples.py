"""A few images of the model as it trains: the same noise and classes each time, so they compare."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core import atomic, config, rng
from sid2core.config import build
from sid2core.diffusion.guidance import NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.inference.generator import Denoiser, Generator, Method, balanced_labels
from sid2core.models.network import Network
from sid2core.training import cluster
from sid2core.training.mesh import Layout

ROWS, COLUMNS = 4, 8


@dataclass(frozen=True)
class Samples:
    """Draws a grid from the EMA's weights, without guidance, into ``<step>.png`` of two folders.

    Attributes:
        method: how images are drawn.
        seed: of the noise.
        layout: where the weights lie.
        kept: a folder that outlives a kill, as the checkpoints do.
        shown: the folder that people look at; :meth:`restore` fills it again after a kill.
    """

    method: Method
    seed: int
    layout: Layout
    kept: Path
    shown: Path

    @classmethod
    def of(
        cls, params: config.Params, network: Network, layout: Layout, kept: Path, shown: Path
    ) -> Samples:
        """As ``params.sampling`` says, for the base model in training."""
        sampling = params.sampling
        method = Method(
            Denoiser(network, Prediction(params.diffusion.prediction)),
            build.noise_schedule(params.diffusion.schedule, network.config.image_shape[-3]),
            build.sampler(sampling),
            NoGuidance(),
            sampling.steps,
            sampling.clip,
        )
        return cls(method, params.seed, layout, kept, shown)

    def restore(self) -> None:
        """Show what this very run has drawn so far, and nothing of another one."""
        if not cluster.first():
            return
        shutil.rmtree(self.shown, ignore_errors=True)
        if self.kept.exists():
            shutil.copytree(self.kept, self.shown)

    def __call__(self, step: int, state: Mapping[str, Any]) -> None:
        """Draw from ``state["ema"]``; of several processes, the first one draws."""
        weights = self.layout.host(state["ema"])
        if not cluster.first():
            return
        count = ROWS * COLUMNS
        labels = balanced_labels(count, self.method.denoiser.network.config.num_classes)
        stream = rng.key(self.seed, "train/samples")
        images = Generator(self.method, weights, count).images(stream, np.arange(count), labels)
        content = png(images)
        for folder in (self.kept, self.shown):
            atomic.write_bytes(folder / f"{step}.png", content)


def png(images: NDArray[np.uint8]) -> bytes:
    """A grid of ``ROWS`` by ``COLUMNS`` images [n, h, w, c].

    Of clips [n, f, h, w, c] it has the first frames. Images below 32 pixels are enlarged by a
    whole factor.
    """
    if images.ndim == 5:
        images = images[:, 0]
    _, height, width, channels = images.shape
    grid = images.reshape(ROWS, COLUMNS, height, width, channels).swapaxes(1, 2)
    grid = grid.reshape(ROWS * height, COLUMNS * width, channels)
    factor = max(1, 32 // max(height, width))
    grid = grid.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    Image.fromarray(grid.squeeze(-1) if channels == 1 else grid).save(buffer, format="PNG")
    return buffer.getvalue()
