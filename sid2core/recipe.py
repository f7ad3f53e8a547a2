"""From parameters to the method's objects: the one place where a name in YAML picks a class."""

from __future__ import annotations

from sid2core import config
from sid2core.diffusion import samplers, schedule, weighting
from sid2core.models.uvit import UViTConfig


def network(model: config.Model, shape: tuple[int, ...], num_classes: int) -> UViTConfig:
    """The network's shape for images of ``shape`` [h, w, c]."""
    height, width, channels = shape
    return UViTConfig(
        image_shape=(height, width, channels),
        num_classes=num_classes,
        patch_size=model.patch_size,
        channels=tuple(model.channels),
        blocks=tuple(model.blocks),
        encoder_depth=tuple(model.encoder_depth),
        decoder_depth=tuple(model.decoder_depth),
        mid_depth=model.mid_depth,
        dropout=tuple(model.dropout),
        emb_channels=model.emb_channels,
        head_size=model.head_size,
    )


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
