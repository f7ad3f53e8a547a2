"""The sections ``diffusion`` and ``sampling``, and the schedules, losses and samplers there are.

A row of a table below is a name, the parameters of that name, and the class that it makes. The
classes' modules are imported when an object is first made, so that reading imports no JAX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from sid2core.config.registry import Choice, FromFields, Registry
from sid2core.config.section import (
    Finite,
    NonNegative,
    NonNegativeFloat,
    Plain,
    Positive,
    Section,
)


class Cosine(Section):
    """The cosine schedule, cut at both ends."""

    logsnr_min: Finite
    logsnr_max: Finite

    @model_validator(mode="after")
    def _ordered(self) -> Cosine:
        if self.logsnr_min >= self.logsnr_max:
            msg = f"logsnr_min {self.logsnr_min} must be below logsnr_max {self.logsnr_max}"
            raise ValueError(msg)
        return self

    def ends(self, image_size: int) -> tuple[float, float]:
        """Log-SNR at the data (t = 0) and at the noise (t = 1)."""
        at_data, at_noise = self.shifts(image_size)
        return self.logsnr_max + at_data, self.logsnr_min + at_noise

    def shifts(self, image_size: int) -> tuple[float, float]:
        """What is added to the cosine's log-SNR at either end, for images of this height."""
        return 0.0, 0.0


class CosineInterpolated(Cosine):
    """The cosine, moved from one noise resolution to another over time (SiD2 supplement B.1)."""

    noise_res_low: Positive
    noise_res_high: Positive | None
    shift: Literal["sid", "listing"]

    def shifts(self, image_size: int) -> tuple[float, float]:
        """``2 log(d / image_size)`` or, as in the listing, ``-log(d / image_size)`` at each end."""
        factor = 2.0 if self.shift == "sid" else -1.0
        ends = (self.noise_res_high or image_size, self.noise_res_low)
        at_data, at_noise = (factor * math.log(end / image_size) for end in ends)
        return at_data, at_noise

    def rises(self, image_size: int) -> bool:
        """Whether log-SNR rises somewhere: its cosine falls by at least 4 a over [0, 1].

        a = pi / 2 - arctan(exp(-logsnr_max / 2)) - arctan(exp(logsnr_min / 2)).
        """
        at_data, at_noise = self.shifts(image_size)
        start, end = math.exp(-0.5 * self.logsnr_max), math.exp(0.5 * self.logsnr_min)
        gentlest = 4.0 * (0.5 * math.pi - math.atan(start) - math.atan(end))
        return at_noise - at_data >= gentlest


SCHEDULES = Registry("diffusion.schedule")
SCHEDULES.register(
    "cosine_interpolated",
    CosineInterpolated,
    FromFields("sid2core.diffusion.schedule:CosineInterpolated"),
)
SCHEDULES.register("cosine", Cosine, "sid2core.diffusion.schedule:Cosine.of")


class Schedule(Choice):
    """Log-SNR over diffusion time; targets take ``image_size``, the height in pixels."""

    registry: ClassVar[Registry] = SCHEDULES


class Biased(Section):
    """A bias that is constant, or moves from ``bias_start`` over ``bias_steps`` steps (C.2)."""

    bias: Finite
    bias_start: Finite | None
    bias_steps: Positive | None

    @model_validator(mode="after")
    def _together(self) -> Biased:
        if (self.bias_start is None) != (self.bias_steps is None):
            msg = (
                f"bias_start is {self.bias_start} and bias_steps {self.bias_steps}; "
                "give both, or null for both"
            )
            raise ValueError(msg)
        return self


class Power(Biased):
    """A bias, how often the low sub-band of the error is split (B.2), and the scale of the loss."""

    levels: NonNegative
    normalisation: Literal["mean", "sum"]


LOSSES = Registry("diffusion.loss")
LOSSES.register("sigmoid", Biased, "sid2core.diffusion.losses:WeightedLoss.sigmoid")
LOSSES.register("power", Power, "sid2core.diffusion.losses:PowerLoss.of")
LOSSES.register("edm", Plain, "sid2core.diffusion.losses:WeightedLoss.edm")
LOSSES.register("edm_monotonic", Plain, "sid2core.diffusion.losses:WeightedLoss.edm_monotonic")
LOSSES.register("elbo", Plain, "sid2core.diffusion.losses:WeightedLoss.elbo")
LOSSES.register("low_bit", Plain, "sid2core.diffusion.losses:WeightedLoss.low_bit")


class Loss(Choice):
    """The loss of base training; targets take ``shape``, that of one example, [(f,) h, w, c]."""

    registry: ClassVar[Registry] = LOSSES


class Diffusion(Section):
    """The process and the objective, shared by every stage that trains or samples."""

    prediction: Literal["v", "eps", "x"]
    schedule: Schedule
    loss: Loss


class Ddpm(Section):
    """Ancestral sampling; the log-variance lies between its lower and its upper bound (B.6)."""

    logvar_fraction: Annotated[float, Field(ge=0, le=1)]


class Addim(Section):
    """DDIM with widened noise (arXiv 2403.06807)."""

    eta: NonNegativeFloat


SAMPLERS = Registry("sampling.sampler")
SAMPLERS.register("ddpm", Ddpm, FromFields("sid2core.diffusion.samplers:DDPM"))
SAMPLERS.register("addim", Addim, FromFields("sid2core.diffusion.samplers:ADDIM"))
SAMPLERS.register("ddim", Plain, FromFields("sid2core.diffusion.samplers:DDIM"))
SAMPLERS.register("dpm_solver", Plain, FromFields("sid2core.diffusion.samplers:DPMSolver"))
SAMPLERS.register("heun", Plain, FromFields("sid2core.diffusion.samplers:Heun"))


class Sampler(Choice):
    """The sampler of the base model; targets take no context."""

    registry: ClassVar[Registry] = SAMPLERS


_OWN = {"ddpm": {"logvar_fraction": 0.3}, "addim": {"eta": 0.1}}
"""What samplers in lists have where nothing else is said: the defaults of their classes."""


def _section(value: Any) -> Any:
    entry = {"name": value} if isinstance(value, str) else value
    name = entry.get("name") if isinstance(entry, Mapping) else None
    own = {name: _OWN[name]} if isinstance(name, str) and name in _OWN else {}
    return own | entry if own else entry


SamplerEntry = Annotated[Sampler, BeforeValidator(_section)]
"""A sampler in a list; its name alone stands for its section with its own defaults."""


class DynamicClip(Section):
    """Clipping to the quantile of each image's |x_hat|, divided by it (arXiv 2205.11487)."""

    quantile: Annotated[float, Field(gt=0, le=1)]


CLIPPINGS = Registry("sampling.clip_x")
CLIPPINGS.register("static", Plain, FromFields("sid2core.diffusion.clipping:StaticClip"))
CLIPPINGS.register("dynamic", DynamicClip, FromFields("sid2core.diffusion.clipping:DynamicClip"))
CLIPPINGS.register("none", Plain, FromFields("sid2core.diffusion.clipping:NoClip"))


class ClipX(Choice):
    """How the predicted image is clipped at each evaluation; targets take no context."""

    registry: ClassVar[Registry] = CLIPPINGS


class Sampling(Section):
    """How every stage draws images from the base model."""

    sampler: Sampler
    steps: Positive
    clip_x: ClipX
    batch_size: Positive

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, raw: Any) -> Any:
        """Read ``clip: true`` of earlier files as static clipping, ``clip: false`` as none."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("clip"), bool):
            return raw
        if "clip_x" in raw:
            msg = "clip is the earlier form of clip_x, and both are there; remove clip"
            raise ValueError(msg)
        kept = {key: value for key, value in raw.items() if key != "clip"}
        return kept | {"clip_x": {"name": "static" if raw["clip"] else "none"}}
