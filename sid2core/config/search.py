"""The section ``guidance_search``: what is searched, and how samples are spent.

As in :mod:`sid2core.config`, types and bounds only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sid2core.config.diffusion import SamplerEntry
from sid2core.config.section import (
    FilePath,
    Finite,
    OpenFraction,
    Positive,
    PositiveFloat,
    Section,
)
from sid2core.config.training import Ema

NULL = "unconditional"
"""The negative that is the model itself with the null condition."""
TRAINED = "train_negative"
"""The negative that the stage of this name trains."""
USUAL = "usual"
"""The average of ``train.ema_decay``."""


class GuidanceSearch(Section):
    """Settings are all combinations; weight 0 and the whole range are always among them.

    A negative is ``unconditional``, a step of ``train.snapshots``, ``train_negative`` or the folder
    of another model; an average is one of :func:`sid2core.inference.averages.read`, or ``usual``.
    ``samplers`` and ``steps`` are null for those of ``sampling``.
    """

    strategy: Literal["race", "grid"]
    negatives: Annotated[list[Positive | FilePath], Field(min_length=1)]
    averages: Annotated[list[Literal["usual"] | Ema], Field(min_length=1)]
    samplers: Annotated[list[SamplerEntry], Field(min_length=1)] | None
    steps: Annotated[list[Positive], Field(min_length=1)] | None
    weights: Annotated[list[PositiveFloat], Field(min_length=1)]
    intervals: list[Annotated[list[Finite], Field(min_length=2, max_length=2)]]
    samples: Annotated[int, Field(ge=4)]
    first: Annotated[int, Field(ge=4)]
    confidence: OpenFraction
    tolerance: PositiveFloat
    budget: Positive | None

    @model_validator(mode="after")
    def _fitting(self) -> GuidanceSearch:
        for low, high in self.intervals:
            if low >= high:
                msg = f"interval [{low}, {high}] is empty; write [lower, upper] log-SNR"
                raise ValueError(msg)
        for name in ("negatives", "averages", "samplers", "steps", "weights", "intervals"):
            values = [repr(value) for value in getattr(self, name) or ()]
            if len(set(values)) != len(values):
                msg = f"{name} repeats an entry: {', '.join(values)}"
                raise ValueError(msg)
        return self

    def count(self, *, unconditional: bool) -> int:
        """How many settings there are; ``unconditional`` data have no null condition."""
        drawn = len(self.samplers or [None]) * len(self.steps or [None]) * len(self.averages)
        negatives = [one for one in self.negatives if not (unconditional and one == NULL)]
        return drawn * (1 + len(negatives) * (1 + len(self.intervals)) * len(self.weights))
