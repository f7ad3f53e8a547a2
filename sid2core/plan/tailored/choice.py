"""The values of a preset for given data, machine and time, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import build, yaml_edit
from sid2core.data.prepare.survey import Survey
from sid2core.errors import Sid2Error
from sid2core.models import cost
from sid2core.plan.tailored import budget, captions
from sid2core.plan.tailored.budget import Budget
from sid2core.plan.tailored.speed import Machine

SIZES = (16, 32, 64, 128, 256, 512)
_WIDTHS = {16: 192, 32: 192, 64: 256, 128: 512, 256: 768, 512: 1024}
"""Channels of the coarsest level, at least, for images of each size."""
_WIDER = (1024, 768, 512, 384, 256, 192)
_BIAS = {16: 2.0, 32: 2.0, 64: 2.0, 128: 0.0, 256: -1.0, 512: -3.0}
"""Of the sigmoid loss; the paper's from 64 pixels on. At 32, icons after 85,000 examples have an fd
of 2.3 with bias 2 and of 2.9 with bias 0."""
_EXAMPLES = 75_000
"""Training examples that images of 32 pixels need with 192 channels: at fewer, shapes are vague."""
_EPOCHS = 2000
"""Passes over the data beyond which a network of this kind remembers its images."""
_REGULARISED = 100
"""Passes over the data from which on images are mirrored and the coarsest level has dropout. At
fewer, both only slow the training: on 2,882 icons in 30 passes they cost a quarter in fd."""
_UPDATES = 6000
"""Updates that a training has at least, if the batch can be so small."""
_BATCHES = (16, 1024)


class ChoiceError(Sid2Error):
    """Nothing useful can be trained with these data in this time."""


@dataclass(frozen=True)
class Choice:
    """A preset's values, why, and what they cost.

    Attributes:
        overlay: the values, nested as in ``params.yaml``.
        reasons: key or section → why it has this value.
        params: the whole parameters with the overlay.
        condition: what the model is conditioned on.
        gflops: of a forward pass, in multiply-adds.
        budget: expected seconds of each stage, and how many samples it can afford.
    """

    overlay: Mapping[str, Any]
    reasons: Mapping[str, str]
    params: config.Params
    condition: ConditionSpec
    gflops: float
    budget: Budget


@dataclass(frozen=True)
class _Network:
    size: int
    width: int
    section: Mapping[str, Any]
    gflops: float
    examples: int
    """Training examples that the time allows."""
    needed: int

    @property
    def worthwhile(self) -> bool:
        return self.examples >= self.needed


def choose(
    found: Survey, machine: Machine, seconds: float, base: Mapping[str, Any], size: int | None
) -> Choice:
    """The preset for data that were surveyed, on a machine, in so many seconds for all stages.

    The largest image size, and for it the widest network, is taken that sees enough examples in
    the time of the training.

    Args:
        found: the data.
        machine: what computes.
        seconds: for the whole pipeline.
        base: the parameters that the preset is an overlay of.
        size: an image size to be used, or None.

    Raises:
        ChoiceError: the smallest network sees too few examples in this time.
    """
    described = captions.overlay(found, base["data"]["max_missing_captions"])
    condition = captions.condition(found, base, described)
    network = _network(found, condition, machine, seconds, size)
    overlay: dict[str, Any] = {"model": network.section}
    overlay |= _data(found, network) | _training(network) | _reference(network)
    overlay = yaml_edit.merged(overlay, described)
    afforded = budget.afford(found, machine, seconds, network.gflops, overlay)
    overlay = yaml_edit.merged(overlay, afforded.overlay)
    params = config.parse(yaml_edit.merged(base, overlay), "the preset")
    reasons = _reasons(found, machine, seconds, network, overlay) | dict(afforded.reasons)
    reasons |= captions.reasons(found)
    return Choice(overlay, reasons, params, condition, network.gflops, afforded)


def _network(
    found: Survey, condition: ConditionSpec, machine: Machine, seconds: float, size: int | None
) -> _Network:
    fitting = [one for one in SIZES if one <= max(found.side, SIZES[0])]
    tried = []
    for one in [size] if size else reversed(fitting):
        least = min((_WIDTHS[known] for known in SIZES if known >= one), default=max(_WIDER))
        for width in (width for width in _WIDER if width >= least):
            network = _candidate(found, condition, machine, seconds, one, width)
            if network.worthwhile:
                return network
            tried.append(network)
    last = tried[-1]
    needed = seconds * last.needed / last.examples
    msg = (
        f"{seconds / 60:.0f} minutes are too short: at {last.size} pixels the smallest network "
        f"sees {last.examples:,} examples, and needs {last.needed:,}; give --time "
        f"{math.ceil(needed / 60)}m or more{', or a smaller --size' * (size is not None)}"
    )
    raise ChoiceError(msg)


def _candidate(
    found: Survey,
    condition: ConditionSpec,
    machine: Machine,
    seconds: float,
    size: int,
    width: int,
) -> _Network:
    section = _model(size, width, machine.compute_dtype)
    shape = found.shape(size)
    gflops = cost.forward_gflops(build.network(config.Model(**section), shape, condition))
    products = budget.TRAIN * seconds * machine.rate
    afforded = products / (cost.FORWARDS_PER_TRAINING_STEP * gflops * 1e9)
    examples = max(1, int(min(afforded, _EPOCHS * found.train)))
    needed = _EXAMPLES * max(0.5, (size / 32) ** 2) * width / 192
    if examples < _REGULARISED * found.train:
        section["dropout"] = [0.0] * len(section["dropout"])
    return _Network(size, width, section, gflops, examples, int(min(needed, _EPOCHS * found.train)))


def _model(size: int, width: int, dtype: str) -> dict[str, Any]:
    """A network whose finest level has about 16 positions a side (32 from 512 channels on)."""
    grid = 32 if width >= 512 and size >= 32 else 16
    patch = max(1, min(8, size // grid))
    levels = max(2, int(math.log2(size / patch / 4)) + 1)
    channels = [max(32, width >> (levels - 1 - level)) for level in range(levels)]
    transformers = 2 if width >= 512 else 1
    depth = [1] + [2] * (levels - 2)
    return {
        "patch_size": patch,
        "channels": channels,
        "blocks": ["res"] * (levels - transformers) + ["transformer"] * transformers,
        "encoder_depth": depth,
        "decoder_depth": depth,
        "mid_depth": 4 if width < 512 else 8,
        "dropout": [0.0] * (levels - 1) + [0.1],
        "temporal_strides": [1] * (levels - 1),
        "emb_channels": 128 if width < 512 else width,
        "head_size": 32 if width < 512 else 64,
        "heads": None,
        "position": "learned",
        "film": "both",
        "order": "attention_first",
        "text": {"channels": None, "positions": True, "pooled": True},
        "compute_dtype": dtype,
    }


def _data(found: Survey, network: _Network) -> dict[str, Any]:
    return {
        "data": {
            "source": dict(found.source),
            "image_size": network.size,
            "channels": found.channels,
            "train_fraction": 0.8 if found.train < 5000 else 0.9,
        },
        "loader": {"horizontal_flip": _mirrored(found, network), "max_shift": 0},
    }


def _mirrored(found: Survey, network: _Network) -> bool:
    if found.captioned:  # they may say left and right
        return False
    return found.channels == 3 and network.examples >= _REGULARISED * found.train


def _training(network: _Network) -> dict[str, Any]:
    least, most = _BATCHES
    batch = 2 ** round(math.log2(min(most, max(least, network.examples / _UPDATES))))
    steps = budget.within(network.examples / batch, (1, 10**9))
    bias = {
        "bias": next(
            (_BIAS[known] for known in SIZES if known >= network.size), min(_BIAS.values())
        )
    }
    return {
        "diffusion": {
            "schedule": {
                "name": "cosine_interpolated",
                "cosine_interpolated": {"noise_res_low": max(4, network.size // 4)},
            },
            "loss": {"name": "sigmoid", "sigmoid": bias, "power": bias},
        },
        "train": {
            "steps": steps,
            "batch_size": batch,
            "ema_decay": float(f"{min(0.9999, max(0.9, 1 - 20 / steps)):.4g}"),
            "optimiser": {
                "learning_rate": round(0.002 * 192 / network.width, 6),
                "warmup_steps": min(1000, steps // 10),
            },
        },
        "guidance": {"weight": 1.0},
        "sampling": {"steps": 48},
    }


def _reference(network: _Network) -> dict[str, Any]:
    levels = max(2, int(math.log2(network.size / 4)) + 1)
    return {
        "reference": {
            "channels": [min(256, 16 << level) for level in range(levels)],
            "feature_size": 128,
            "steps": 800,
            "batch_size": 64,
            "max_shift": max(1, network.size // 16),
        }
    }


def _reasons(
    found: Survey,
    machine: Machine,
    seconds: float,
    network: _Network,
    overlay: Mapping[str, Any],
) -> dict[str, str]:
    train = overlay["train"]
    epochs = network.examples / found.train
    return {
        "data.source": f"{found.train:,} images in {len(found.class_names)} class(es)",
        "data.image_size": (
            f"the shorter side is {found.side} pixels in the median; {network.size} is the largest "
            f"size at which {budget.TRAIN:.0%} of {seconds / 60:.0f} minutes show enough examples"
        ),
        "data.channels": "all probed pictures are grey" * (found.channels == 1)
        or "some probed pictures have colours",
        "data.train_fraction": "enough held-out images to measure distances to",
        "loader.horizontal_flip": (
            "pictures in colour mostly may be mirrored; set it to false for letters and logos"
            if _mirrored(found, network)
            else "captions may say left and right"
            if found.captioned
            else f"in {epochs:.0f} passes over the data there is no need for more pictures"
            if found.channels == 3
            else "grey pictures are often letters or digits, which must not be mirrored"
        ),
        "model": (
            f"{network.width} channels at the coarsest level, {network.gflops:.3g} GFLOPs: sees "
            f"{network.examples:,} examples in the time, and {network.needed:,} are needed"
        ),
        "diffusion.schedule.cosine_interpolated.noise_res_low": "a quarter of the image's side",
        "diffusion.loss": "the sigmoid loss with the paper's bias for this size, and 2 below 64",
        "train.steps": f"{epochs:.0f} passes over the data",
        "train.batch_size": (
            f"{train['steps']:,} updates; small batches, since updates count more than examples"
        ),
        "train.ema_decay": "the average of about the last twentieth of the training",
        "train.optimiser": "0.002 at 192 channels, less at more",
        "reference": "one level for each halving of the image down to 4 pixels",
        "sampling": "more than 32 steps, which leave noise in samples of a short training",
        "guidance": "strong enough to be seen",
        "model.compute_dtype": f"{machine.compute_dtype} on {machine.name}",
    }
