"""A trained model as a stage finds it: weights, and the process they were trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jax.sharding import NamedSharding

from sid2core import config
from sid2core.conditioning import ConditionError, ConditionSpec
from sid2core.config import build, legacy
from sid2core.diffusion import samplers
from sid2core.diffusion.clipping import ClipX
from sid2core.diffusion.guidance import Guidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import Schedule
from sid2core.inference.generator import Denoiser, Method
from sid2core.models import network
from sid2core.models.architecture import UViTConfig
from sid2core.models.execution import DEFAULT, Execution
from sid2core.models.network import Parameters
from sid2core.text.prompts import Prompts


@dataclass(frozen=True, eq=False)
class Trained:
    """A denoiser with its weights and its noise schedule."""

    denoiser: Denoiser
    schedule: Schedule
    params: Parameters
    config: Mapping[str, Any]
    """The whole ``config.json`` beside the weights."""
    folder: Path
    """Where it was read from; what makes tokens of prompts is there."""

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
        return cls(denoiser, schedule, params, settings, folder)

    @property
    def shape(self) -> UViTConfig:
        """What shape the network has."""
        return self.denoiser.network.config

    @property
    def condition(self) -> ConditionSpec:
        """What the model is conditioned on."""
        return self.shape.condition

    @property
    def student_steps(self) -> int | None:
        """The number of steps of a distilled student; None for a base model."""
        return self.config.get("student_steps")

    @property
    def student_sampler(self) -> samplers.Posterior:
        """The step that a distilled student was trained for; older folders say no eta: it was 1."""
        return samplers.Posterior(self.config.get("student_eta", 1.0))

    def prompts(self, sharding: NamedSharding | None = None) -> Prompts:
        """What turns prompts into conditions.

        Args:
            sharding: how devices share the texts that a frozen encoder encodes.

        Raises:
            ConditionError: the model takes no text.
            TextError: its folder has no text encoder, or it is damaged.
        """
        kind = self.condition.text
        if kind is None:
            takes = ", ".join(self.condition.names) or "nothing: it is unconditional"
            msg = f"prompt: the model takes no text; it takes {takes}"
            raise ConditionError(msg)
        return Prompts.load(self.folder, kind, sharding)

    def with_negative(self, prompt: str | None, sharding: NamedSharding | None = None) -> Trained:
        """The same with ``prompt`` in place of the empty caption: guidance pushes away from it.

        Raises:
            ConditionError: as :meth:`prompts`; without a prompt, nothing is raised.
            TextError: as :meth:`prompts`.
        """
        if prompt is None:
            return self
        return self.with_condition(self.condition.with_text(self.prompts(sharding).null(prompt)))

    def with_condition(self, spec: ConditionSpec) -> Trained:
        """The same with other names of classes, or another null."""
        net = self.denoiser.network
        shape = replace(net.config, condition=spec)
        return replace(self, denoiser=replace(self.denoiser, network=replace(net, config=shape)))

    def method(
        self, sampler: samplers.Sampler, guidance: Guidance, steps: int, *, clip_x: ClipX
    ) -> Method:
        """How to draw from this model."""
        return Method(self.denoiser, self.schedule, sampler, guidance, steps, clip_x)
