"""What ``params.yaml`` says of training: optimiser, averages, batches, devices.

As in :mod:`sid2core.config`, types and bounds only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sid2core.config.section import (
    FilePath,
    Fraction,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    Positive,
    PositiveFloat,
    Section,
)

WIDEST_POWER = 0.2886
"""sigma_rel of a plain mean over all steps, 1 / sqrt(12), rounded down."""


class Optimiser(Section):
    """An optimiser with linear warm-up and a global-norm clip; ``decay`` follows the warm-up.

    ``weight_decay`` is of adamw and muon, null for adam; muon uses
    Adam for parameters that are not matrices.
    """

    name: Literal["adam", "adamw", "muon"]
    learning_rate: PositiveFloat
    warmup_steps: NonNegative
    decay: Literal["constant", "linear"]
    adam_b1: Fraction
    adam_b2: Fraction
    adam_eps: PositiveFloat
    weight_decay: NonNegativeFloat | None
    clip_norm: PositiveFloat

    @model_validator(mode="after")
    def _fitting(self) -> Optimiser:
        decays = self.name != "adam"
        if decays and self.weight_decay is None:
            msg = f"{self.name} needs weight_decay, found null; 0.0 is none"
            raise ValueError(msg)
        if not decays and self.weight_decay is not None:
            msg = (
                f"adam has no use for weight_decay {self.weight_decay}; set it to null, "
                "or name to adamw"
            )
            raise ValueError(msg)
        return self


def check_parts(batch_size: int, accumulation: int) -> None:
    """Refuse a batch that cannot be computed in so many equal parts."""
    if batch_size % accumulation:
        msg = f"accumulation {accumulation} must divide batch_size {batch_size}"
        raise ValueError(msg)


class Ema(Section):
    """One more average of the weights: a fixed ``decay``, or a ``power`` function of the step.

    The value is the decay, or the power function's relative width sigma_rel (arXiv 2312.02696).
    """

    kind: Literal["decay", "power"]
    value: OpenFraction

    @model_validator(mode="after")
    def _narrow(self) -> Ema:
        if self.kind == "power" and self.value > WIDEST_POWER:
            msg = (
                f"power {self.value} is wider than the plain average of all steps, which is "
                f"{WIDEST_POWER}; usual widths are 0.05 to 0.15"
            )
            raise ValueError(msg)
        return self


class Train(Section):
    """Base training; later stages use the average of ``ema_decay``, ``emas`` are kept beside it.

    ``given_dropout`` is of given frames, null for ``condition_dropout``. ``snapshots`` are steps
    whose averages are kept too. ``init_from`` is an earlier model's folder, ``freeze`` patterns of
    parameters' names.
    """

    steps: Positive
    batch_size: Positive
    accumulation: Positive
    condition_dropout: Fraction
    given_dropout: Fraction | None
    ema_decay: Fraction
    emas: Annotated[list[Ema], Field(min_length=1)] | None
    snapshots: Annotated[list[Positive], Field(min_length=1)] | None
    optimiser: Optimiser
    init_from: Annotated[FilePath, Field(min_length=1)] | None
    freeze: list[Annotated[str, Field(min_length=1)]] | None

    @model_validator(mode="after")
    def _fitting(self) -> Train:
        check_parts(self.batch_size, self.accumulation)
        emas = self.emas or []
        if len({(ema.kind, ema.value) for ema in emas}) != len(emas):
            msg = f"emas repeats an entry: {', '.join(f'{ema.kind} {ema.value}' for ema in emas)}"
            raise ValueError(msg)
        steps = self.snapshots or []
        if steps != sorted(set(steps)) or steps[-1:] > [self.steps]:
            msg = f"snapshots: found {steps}; expected ascending steps up to {self.steps} (steps)"
            raise ValueError(msg)
        return self


class NegativeModel(Section):
    """The keys of ``model`` that the negative may have otherwise; null is the base model's."""

    channels: Annotated[list[Positive], Field(min_length=1)] | None
    encoder_depth: list[NonNegative] | None
    decoder_depth: list[NonNegative] | None
    mid_depth: Positive | None
    dropout: list[Fraction] | None
    emb_channels: Positive | None
    head_size: Positive | None


class TrainNegative(Section):
    """The training of a smaller or less trained model for autoguidance; no ``steps``, no training.

    A null beside it is the value of ``train``, whose other keys hold for it, too, without ``emas``,
    ``snapshots``, ``init_from`` and ``freeze``.
    """

    steps: Positive | None
    batch_size: Positive | None
    ema_decay: Fraction | None
    model: NegativeModel


class Mesh(Section):
    """How many devices share the batch, and how many of these the state too; -1 is all others."""

    data: Annotated[int, Field(ge=-1)]
    fsdp: Annotated[int, Field(ge=-1)]

    @model_validator(mode="after")
    def _sizes(self) -> Mesh:
        if 0 in (self.data, self.fsdp) or (self.data, self.fsdp) == (-1, -1):
            msg = (
                f"data {self.data} and fsdp {self.fsdp}: give sizes of 1 and more, "
                "or -1 for one of them"
            )
            raise ValueError(msg)
        return self
