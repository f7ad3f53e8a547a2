"""Typed view of ``params.yaml``: every key is known, typed and bounded before any work starts.

This module declares types and bounds only. It holds no default and computes no value, so a change
here cannot change a result: values live in ``params.yaml``, one section per stage, where DVC
tracks them. Reading imports neither JAX nor pandas, so a mistyped key fails at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from sid2core.config import explain, legacy, plugins, yaml_read
from sid2core.config.data import Data, Loader
from sid2core.config.diffusion import Diffusion, Sampling
from sid2core.config.evaluation import Eval
from sid2core.config.registry import Choice, FromFields, Registry
from sid2core.config.search import GuidanceSearch
from sid2core.config.section import (
    Bits,
    FilePath,
    Finite,
    Fraction,
    NonNegative,
    NonNegativeFloat,
    ParamsError,
    Positive,
    PositiveFloat,
    Section,
    Seed,
)
from sid2core.config.text import Text
from sid2core.config.training import Mesh, Optimiser, Train, TrainNegative, check_parts

PARAMS_FILE = Path("params.yaml")


class Reference(Section):
    """The data set's own feature extractor: a small network that learns from the train split."""

    channels: Annotated[list[Positive], Field(min_length=1)]
    feature_size: Positive
    steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    max_shift: NonNegative
    label_smoothing: Fraction


class ModelText(Section):
    """How captions enter the network, where the data have any.

    ``channels`` is the width of the tokens that attention looks at; null is ``emb_channels``.
    """

    channels: Positive | None
    positions: bool
    pooled: bool


class Model(Section):
    """Residual U-ViT: one entry of each list a level, from the finest to the coarsest.

    The last level is the middle: it has ``mid_depth`` blocks and no skip.
    """

    patch_size: Literal[1, 2, 4, 8]
    channels: Annotated[list[Positive], Field(min_length=1)]
    blocks: list[Literal["res", "transformer"]]
    encoder_depth: list[NonNegative]
    decoder_depth: list[NonNegative]
    mid_depth: Positive
    dropout: list[Fraction]
    temporal_strides: list[Positive]
    emb_channels: Positive
    head_size: Positive | None
    heads: Positive | None
    position: Literal["learned", "rope"]
    film: Literal["both", "attention", "mlp"]
    order: Literal["attention_first", "mlp_first", "parallel"]
    text: ModelText
    compute_dtype: Literal["float32", "bfloat16"]

    @model_validator(mode="after")
    def _levels(self) -> Model:
        levels = len(self.channels)
        expected = {
            "blocks": levels,
            "dropout": levels,
            "encoder_depth": levels - 1,
            "decoder_depth": levels - 1,
            "temporal_strides": levels - 1,
        }
        for name, length in expected.items():
            found = len(getattr(self, name))
            if found != length:
                msg = f"{name} has {found} entries; {levels} channels need {length}"
                raise ValueError(msg)
        if (self.head_size is None) == (self.heads is None):
            msg = (
                f"head_size is {self.head_size} and heads {self.heads}; give one, the other is null"
            )
            raise ValueError(msg)
        name = "heads" if self.head_size is None else "head_size"
        for channels, block in zip(self.channels, self.blocks, strict=True):
            if block == "transformer" and channels % getattr(self, name):
                msg = f"{name} {getattr(self, name)} must divide {channels} channels"
                raise ValueError(msg)
        if self.emb_channels % 2:
            msg = (
                f"emb_channels is {self.emb_channels}; expected an even number, half of it for "
                "sines and half for cosines of the log-SNR"
            )
            raise ValueError(msg)
        for channels in self.attention_widths():
            size = self.size_of_heads(channels)
            if self.position == "rope" and size % 2:
                msg = (
                    f"position rope needs heads of an even size, found {size} for {channels} "
                    f"channels; change {name}, or set position to learned"
                )
                raise ValueError(msg)
        return self

    def attention_widths(self) -> list[int]:
        """Channels of the levels that have Transformer blocks."""
        pairs = zip(self.channels, self.blocks, strict=True)
        return [channels for channels, block in pairs if block == "transformer"]

    def size_of_heads(self, channels: int) -> int:
        """Channels of an attention head at a level with so many."""
        return self.head_size or channels // (self.heads or 1)


class Guidance(Section):
    """Constant guidance, as ``evaluate`` reports it beside the found interval.

    ``negative_prompt`` takes the place of the empty caption in every guidance.
    """

    weight: NonNegativeFloat
    negative_prompt: str | None


class Alternating(Section):
    """The weight on the error in x, min(w0, max_weight).

    ``weighting`` makes it an error in v (w0 = 1 + SNR), in eps (SNR) or in x (1).
    """

    weighting: Literal["v", "eps", "x"]
    max_weight: PositiveFloat


class ParameterSpace(Alternating):
    """The same weight, and the preconditioner of the teacher's gradient; Adam's has b2 and eps."""

    preconditioner: Literal["identity", "adam"]
    adam_b2: Fraction
    adam_eps: PositiveFloat


FORMS = Registry("distill.form")
FORMS.register(
    "alternating", Alternating, FromFields("sid2core.distillation.alternating:Alternating")
)
FORMS.register(
    "parameter_space",
    ParameterSpace,
    FromFields("sid2core.distillation.parameter_space:ParameterSpace"),
)


class Form(Choice):
    """A form of moment matching: a pair of objectives, of the student and of what judges it.

    Targets take ``states`` and ``teacher`` (:mod:`sid2core.distillation`).
    """

    registry: ClassVar[Registry] = FORMS


class Distill(Section):
    """Moment matching (arXiv 2406.04103), one student for each entry of ``steps``."""

    form: Form
    teacher: Literal["guided", "best"]
    steps: Annotated[list[Positive], Field(min_length=1)]
    from_student: bool
    states: Literal["data", "rollout"]
    times: Literal["continuous", "grid"]
    density: Literal["t", "logsnr"]
    eta: Annotated[float, Field(ge=0, le=1)]
    dropout: Fraction | None
    iterations: Positive
    batch_size: Positive
    accumulation: Positive
    ema_decay: Fraction
    optimiser: Optimiser
    score_samples: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _distinct(self) -> Distill:
        if len(set(self.steps)) != len(self.steps):
            msg = f"steps repeats an entry: {self.steps}"
            raise ValueError(msg)
        check_parts(self.batch_size, self.accumulation)
        return self


class Analysis(Section):
    """The low-bit view of the loss (SiD2 supplement A): what its figures span and mix."""

    bits: Annotated[list[Bits], Field(min_length=1)]
    # Beyond, the error is 0 or SNR times the variance to the last digit that is written.
    logsnr_min: Annotated[float, Field(ge=-30, le=30)]
    logsnr_max: Annotated[float, Field(ge=-30, le=30)]
    points: Annotated[int, Field(ge=2, le=10_000)]
    sigmoid_bias: Finite
    mixture_bits: Annotated[list[Bits], Field(min_length=1)]
    mixture_proportions: list[PositiveFloat]

    @model_validator(mode="after")
    def _fitting(self) -> Analysis:
        if self.logsnr_min >= self.logsnr_max:
            msg = f"logsnr_min {self.logsnr_min} must be below logsnr_max {self.logsnr_max}"
            raise ValueError(msg)
        found, expected = len(self.mixture_proportions), len(self.mixture_bits)
        if found != expected:
            msg = (
                f"mixture_proportions has {found} entries; {expected} mixture_bits need {expected}"
            )
            raise ValueError(msg)
        for name in ("bits", "mixture_bits"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                msg = f"{name} repeats an entry: {values}"
                raise ValueError(msg)
        return self


class Report(Section):
    """What the page shows."""

    title: Annotated[str, Field(min_length=1)]
    neighbours: Positive


class Runtime(Section):
    """What does not change results; DVC does not track it."""

    launcher: str
    mesh: Mesh
    log_every: Positive
    checkpoint_every: Positive
    checkpoint_minutes: PositiveFloat | None
    keep_checkpoints: Annotated[int, Field(ge=2)]  # one may be damaged
    keep_hours: PositiveFloat | None
    max_skipped: Positive
    sample_every: NonNegative
    sample_prompts: Annotated[FilePath, Field(min_length=1)] | None
    profile: Annotated[list[NonNegative], Field(min_length=2, max_length=2)] | None
    remat: Literal["none", "products", "blocks", "offload", "full"]
    scan_blocks: Positive
    attention: Literal["auto", "xla", "recomputed", "cudnn"]
    prefetch: NonNegative
    cache_mib: Positive
    drawn_gib: NonNegativeFloat
    workers: Positive | None
    dask_address: str | None

    @model_validator(mode="after")
    def _some_steps(self) -> Runtime:
        if self.profile is not None and self.profile[0] >= self.profile[1]:
            msg = f"profile {self.profile} has no step; expected [start, stop] with start < stop"
            raise ValueError(msg)
        return self


class Params(Section):
    """The whole of ``params.yaml``."""

    plugins: list[Annotated[str, Field(min_length=1)]]
    seed: Seed
    data: Data
    loader: Loader
    text: Text
    reference: Reference
    diffusion: Diffusion
    model: Model
    train: Train
    train_negative: TrainNegative
    sampling: Sampling
    guidance: Guidance
    guidance_search: GuidanceSearch
    distill: Distill
    eval: Eval
    analysis: Analysis
    report: Report
    runtime: Runtime


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    YAML 1.2 is read, so ``1e-05``, as ``dvc exp run --set-param`` writes tiny numbers, is a float.

    Raises:
        ParamsError: the file is missing, is not YAML, or has an unknown, missing, ill-typed or
            out-of-range key; the message lists every such key.
    """
    try:
        raw = yaml_read.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path} not found in {Path.cwd()}; run from the project's root"
        raise ParamsError(msg) from None
    except UnicodeDecodeError as error:
        msg = (
            f"{path} cannot be used: it is not UTF-8 ({error.reason} at byte {error.start}); save "
        )
        raise ParamsError(f"{msg}it as UTF-8") from None
    except yaml_read.YamlProblem as error:
        msg = f"{path} cannot be used: {error}"
        raise ParamsError(msg) from None
    return parse(raw, str(path))


def parse(raw: Any, origin: str = "params.yaml") -> Params:
    """Check a mapping as read from YAML, once its plugins are imported; errors as in :func:`read`.

    Raises:
        ParamsError: as :func:`read`, or a plugin cannot be imported.
    """
    if isinstance(raw, Mapping):
        plugins.load(raw.get("plugins"))
    moved = [f"  {line}" for line in legacy.moved(raw)]
    if moved:
        msg = "\n".join([f"{origin} is of an earlier layout; {len(moved)} key(s) moved:", *moved])
        raise ParamsError(msg)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = explain.lines(Params, error)
        msg = "\n".join([f"{origin} has {len(lines)} problem(s):", *explain.first(lines)])
        raise ParamsError(msg) from None
