"""A trained model as a stage finds it: weights, and the process they were trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sid2core import config
from sid2core.config import build, legacy
from sid2core.diffusion import samplers
from sid2core.diffusion.clipping import ClipX
from sid2core.diffusion.guidance import Guidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import Schedule
from sid2core.inference.generator import Denoiser, Method
from sid2core.models import network
from sid2core.models.execution import DEFAULT, Execution
from sid2core.models.network import Parameters


@dataclass(frozen=True, eq=False)
class Trained:
    """A denoiser with its weights and its noise schedule."""

    denoiser: Denoiser
    schedule: Schedule
    params: Parameters
    config: Mapping[str, Any]
    """The whole ``config.json`` beside the weights."""

    @classmethod
    def load(
        cls, folder: Path, execution: Execution = DEFAULT, weights: str = network.WEIGHTS
    ) -> Trained:
        """Read weights and configuration; the process is the one they were trained for.

        Args:
            folder: what :func:`sid2core.models.network.save` wrote.
            execution: how the network is to be computed here.
            weights: another file of its weights, such as a further average of ``train.emas``.

        Raises:
            WeightsError: the folder holds no readable model.
        """
        net, params, settings = network.load(folder, execution, weights)
        diffusion = config.Diffusion.model_validate(legacy.upgraded(settings["diffusion"]))
        denoiser = Denoiser(net, Prediction(diffusion.prediction))
        schedule = build.noise_schedule(diffusion.schedule, net.config.image_shape[-3])
        return cls(denoiser, schedule, params, settings)

    def method(
        self, sampler: samplers.Sampler, guidance: Guidance, steps: int, *, clip_x: ClipX
    ) -> Method:
        """How to draw from this model."""
        return Method(self.denoiser, self.schedule, sampler, guidance, steps, clip_x)
