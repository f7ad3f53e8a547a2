"""From parameters to the method's objects: the one place where a name in YAML picks a class."""

from __future__ import annotations

import math
from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.diffusion import losses, samplers, schedule, weighting
from sid2core.models.architecture import UViTConfig
from sid2core.models.execution import Execution, Remat


def network(model: config.Model, shape: tuple[int, ...], condition: ConditionSpec) -> UViTConfig:
    """The network's shape for examples of ``shape``, [h, w, c] or [f, h, w, c].

    Args:
        model: the section ``model``.
        shape: of one example.
        condition: what the network is conditioned on.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in model.model_dump().items()
    }
    return UViTConfig(image_shape=tuple(shape), condition=condition, **values)


def execution(runtime: config.Runtime) -> Execution:
    """How networks are computed here."""
    return Execution(Remat(runtime.remat), runtime.scan_blocks, runtime.attention)


def noise_schedule(settings: config.Schedule, image_size: int) -> schedule.Schedule:
    """The noise schedule for images ``image_size`` pixels high.

    Raises:
        ParamsError: log-SNR would rise somewhere in time.
    """
    if settings.name == "cosine":
        return schedule.Cosine(settings.logsnr_min, settings.logsnr_max)
    try:
        return schedule.CosineInterpolated(
            image_size,
            settings.noise_res_low,
            settings.noise_res_high,
            settings.logsnr_min,
            settings.logsnr_max,
            settings.shift,
        )
    except ValueError as error:
        msg = f"diffusion.schedule: {error}"
        raise config.ParamsError(msg) from None


def training_loss(settings: config.Loss, shape: tuple[int, ...]) -> losses.TrainingLoss:
    """The loss of base training on images [h, w, c] or video [f, h, w, c] of ``shape``.

    Raises:
        ParamsError: the power loss would split the images more often than their sides allow.
    """
    height, width = shape[-3:-1]
    shift = weighting.edm_resolution_shift(height)
    match settings.name:
        case "sigmoid":
            return losses.WeightedLoss(weighting.SigmoidWeighting(_bias(settings)))
        case "edm":
            return losses.WeightedLoss(weighting.EdmWeighting(shift))
        case "edm_monotonic":
            return losses.WeightedLoss(weighting.EdmMonotonicWeighting(shift))
        case "elbo":
            return losses.WeightedLoss(weighting.ElboWeighting())
        case "low_bit":
            return losses.WeightedLoss(weighting.LowBitWeighting(height))
        case "power":
            return losses.PowerLoss(_bias(settings), _levels(settings, height, width))


def moving_bias(settings: config.Loss) -> weighting.TimeShiftedBias | None:
    """The bias that moves from ``bias_start`` on (SiD2 supplement C.2); None where none moves."""
    if settings.bias is None or settings.bias_start is None or settings.bias_steps is None:
        return None
    return weighting.TimeShiftedBias(settings.bias_start, settings.bias, settings.bias_steps)


def _bias(settings: config.Loss) -> float | weighting.TimeShiftedBias:
    assert settings.bias is not None, "config.Loss lets no sigmoid or power loss go without"
    return moving_bias(settings) or settings.bias


def _levels(settings: config.Loss, height: int, width: int) -> int:
    levels = settings.levels
    assert levels is not None, "config.Loss lets no power loss go without"
    sides = math.gcd(height, width)
    most = (sides & -sides).bit_length() - 1
    if levels > most:
        msg = (
            f"diffusion.loss.levels: found {levels}, which needs sides that divide by "
            f"2^{levels}; images of {height} × {width} can be split {most} times: "
            f"lower it to {most}, or change the image size"
        )
        raise config.ParamsError(msg)
    return levels


def sampler(settings: config.Sampling) -> samplers.Sampler:
    """The sampler of the base model."""
    match settings.sampler:
        case "ddpm":
            return samplers.DDPM(settings.logvar_fraction)
        case "addim":
            return samplers.ADDIM(settings.eta)
        case "ddim":
            return samplers.DDIM()
        case "dpm_solver":
            return samplers.DPMSolver()
        case "heun":
            return samplers.Heun()
