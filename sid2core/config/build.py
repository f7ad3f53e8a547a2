"""From parameters to the method's objects: the one place where a name in YAML picks a class."""

from __future__ import annotations

from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config.diffusion import Biased
from sid2core.diffusion import losses, samplers, schedule, weighting
from sid2core.diffusion.clipping import ClipX
from sid2core.models.architecture import UViTConfig
from sid2core.models.execution import Execution, Remat


def network(model: config.Model, shape: tuple[int, ...], condition: ConditionSpec) -> UViTConfig:
    """The network's shape for examples of ``shape``, [h, w, c] or [f, h, w, c].

    Args:
        model: the section ``model``.
        shape: of one example, its given frames included.
        condition: what the network is conditioned on.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in model.model_dump(exclude={"text"}).items()
    }
    values |= {f"text_{name}": value for name, value in model.text.model_dump().items()}
    return UViTConfig(image_shape=condition.modelled(shape), condition=condition, **values)


def execution(runtime: config.Runtime) -> Execution:
    """How networks are computed here."""
    return Execution(Remat(runtime.remat), runtime.scan_blocks, runtime.attention)


def noise_schedule(settings: config.Schedule, image_size: int) -> schedule.Schedule:
    """The noise schedule for images ``image_size`` pixels high.

    Raises:
        ParamsError: log-SNR would rise somewhere in time.
    """
    made: schedule.Schedule = settings.build(image_size=image_size)
    return made


def training_loss(settings: config.Loss, shape: tuple[int, ...]) -> losses.TrainingLoss:
    """The loss of base training on images [h, w, c] or video [f, h, w, c] of ``shape``.

    Raises:
        ParamsError: the power loss would split the images more often than their sides allow.
    """
    made: losses.TrainingLoss = settings.build(shape=tuple(shape))
    return made


def moving_bias(settings: config.Loss) -> weighting.TimeShiftedBias | None:
    """The bias that moves from ``bias_start`` on (SiD2 supplement C.2); None if none moves."""
    bias = weighting.bias_of(settings.settings) if isinstance(settings.settings, Biased) else None
    return bias if isinstance(bias, weighting.TimeShiftedBias) else None


def settled(settings: config.Loss) -> int:
    """The training step from which the loss no longer changes."""
    bias = moving_bias(settings)
    return 0 if bias is None else bias.steps


def sampler(settings: config.Sampling) -> samplers.Sampler:
    """The sampler of the base model."""
    made: samplers.Sampler = settings.sampler.build()
    return made


def clip_x(settings: config.Sampling) -> ClipX:
    """How the base model's and the students' predictions are clipped."""
    made: ClipX = settings.clip_x.build()
    return made
