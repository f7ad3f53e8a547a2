"""From parameters to the method's objects: the one place where a name in YAML picks a class."""

from __future__ import annotations

from sid2core import config
from sid2core.diffusion import samplers, schedule, weighting
from sid2core.models.architecture import UViTConfig
from sid2core.models.execution import Execution, Remat


def network(model: config.Model, shape: tuple[int, ...], num_classes: int) -> UViTConfig:
    """The network's shape for examples of ``shape``, [h, w, c] or [f, h, w, c]."""
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in model.model_dump().items()
    }
    return UViTConfig(image_shape=tuple(shape), num_classes=num_classes, **values)


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


def loss_weighting(settings: config.Loss) -> weighting.Weighting:
    """The weight on the eps error."""
    return weighting.SigmoidWeighting(settings.bias)


def sampler(settings: config.Sampling) -> samplers.Sampler:
    """The sampler of the base model."""
    match settings.sampler:
        case "ddpm":
            return samplers.DDPM(settings.logvar_fraction)
        case "addim":
            return samplers.ADDIM(settings.eta)
        case "ddim":
            return samplers.DDIM()
