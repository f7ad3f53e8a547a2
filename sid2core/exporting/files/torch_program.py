"""The exported pipeline on arrays, for the check of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline


class Program:
    """The network and the pipeline."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline

    def network(self, **inputs: np.ndarray) -> np.ndarray:
        """The network's output."""
        found = self.pipeline.unet(**{name: torch.tensor(one) for name, one in inputs.items()})
        return np.asarray(found)

    def draw(self, noise: np.ndarray, guidance: np.ndarray, **inputs: np.ndarray) -> np.ndarray:
        """Images in [-1, 1]."""
        del inputs["keys"]
        pipeline, condition = (
            self.pipeline,
            {name: torch.tensor(one) for name, one in inputs.items()},
        )
        made = pipeline.drawn(
            condition,
            pipeline.null(),
            noise.shape[1],
            lambda step: torch.tensor(noise[step]),
            len(noise),
            float(guidance),
        )
        return np.asarray(made)


def load(folder: Path) -> Program:
    """The pipeline of a folder."""
    torch.set_grad_enabled(False)
    return Program(DiffusionPipeline.from_pretrained(folder, trust_remote_code=True))
