"""The section ``eval``, and the feature extractors whose weights the user supplies.

An extractor is a row of :data:`EXTRACTORS`: a name, its parameters, and its class, which follows
:class:`sid2core.metrics.networks.protocol.ExtractorKind` and is imported on first use.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from sid2core.config.named_samplers import NamedSampler, NamedSamplers, check_names
from sid2core.config.registry import Kinds, Registry
from sid2core.config.section import FilePath, Positive, Section
from sid2core.config.yaml_read import shown

OWN = "classifier"
"""The name of the data set's own extractor, which the stage ``reference`` trains."""
CLIP = "clip"
"""The name of the extractor that scores captions; it is primary only where it is named."""

_PUBLISHED = ("inception", "i3d_k600", "i3d")


class Weights(Section):
    """An extractor that is used if the user has its weight file."""

    weights: FilePath | None

    @property
    def active(self) -> bool:
        """Whether it is used. An extractor whose settings lack this property always is."""
        return self.weights is not None


class Inception(Weights):
    """FID's Inception, and how images are resized for it."""

    mode: Literal["tf1", "torch", "clean"]


class ClipWeights(Weights):
    """I3D, which measures clips of 10 frames or more."""

    least_frames: ClassVar[int] = 10


class K600Weights(ClipWeights):
    """The same by the protocol of Kinetics-600, which is defined for 16."""

    least_frames: ClassVar[int] = 16


EXTRACTORS = Registry("eval.extractors")
EXTRACTORS.register("clip", Weights, "sid2core.metrics.networks.clip:CLIP")
EXTRACTORS.register("i3d", ClipWeights, "sid2core.metrics.networks.i3d:I3D")
EXTRACTORS.register("i3d_k600", K600Weights, "sid2core.metrics.networks.i3d_k600:I3DK600")
EXTRACTORS.register("dinov2", Weights, "sid2core.metrics.networks.dinov2:DINOv2")
EXTRACTORS.register("inception", Inception, "sid2core.metrics.networks.inception:Inception")


class Extractors(Kinds):
    """The extractors beside the data set's own; the last active one is the default primary one."""

    registry: ClassVar[Registry] = EXTRACTORS

    @property
    def active(self) -> dict[str, Section]:
        """The settings of the extractors that are used, by name and in the registry's order."""
        return {
            name: settings
            for name, settings in self.chosen.items()
            if getattr(settings, "active", True)
        }

    @model_serializer
    def _dump(self) -> dict[str, object]:
        return {name: settings.model_dump() for name, settings in self.active.items()}


class Prediction(Section):
    """Of models with given frames: how many clips are continued, and how often each."""

    windows: Positive
    samples: Positive


def _prompts(value: Any) -> Any:
    """Refuse what describes no prompts; YAML reads braces without quotes as a mapping."""
    texts = value if isinstance(value, list) else [value]
    if value is None or (texts and all(isinstance(text, str) for text in texts)):
        return value
    found = f"found {shown(value)} ({type(value).__name__})"
    msg = (
        f"{found}; expected a list of prompts, the path of a text file, one prompt with "
        'alternatives such as "a {red|blue} circle" (braces need quotation marks), or null'
    )
    raise ValueError(msg)


class Eval(Section):
    """How many images of each sampler are evaluated, by which extractors, and how many are kept."""

    samples: Annotated[int, Field(ge=6)]  # each has five neighbours then
    repeats: Positive
    keep: Positive
    grid_columns: Positive
    chunk_size: Positive
    labels: Literal["balanced", "drawn"]
    extractors: Extractors
    primary_extractor: str | None
    reference_stats: FilePath | None
    infinity: bool
    captions: FilePath | None
    prediction: Prediction
    prompts: Annotated[str | list[str] | None, BeforeValidator(_prompts)]
    samplers: Annotated[list[NamedSamplers], Field(min_length=1)] | None

    @property
    def named_samplers(self) -> list[NamedSampler]:
        """The rows of all entries of ``samplers``."""
        return [row for entry in self.samplers or [] for row in entry.rows()]

    @property
    def published_extractor(self) -> str | None:
        """The extractor of ``reference_stats``: the first active one of :data:`_PUBLISHED`."""
        return next((name for name in _PUBLISHED if name in self.extractors.active), None)

    @model_validator(mode="after")
    def _fitting(self) -> Eval:
        active = self.extractors.active
        if self.samples < 20 and (self.infinity or "inception" in active):
            msg = f"samples {self.samples} are too few for infinity or Inception; 20 or more"
            raise ValueError(msg)
        if self.reference_stats is not None and self.published_extractor is None:
            msg = (
                f"reference_stats is {self.reference_stats!r}, statistics of Inception's features, "
                "or of I3D's: set extractors.inception.weights, or those of i3d_k600 or i3d, or "
                "reference_stats to null"
            )
            raise ValueError(msg)
        if OWN in self.extractors.chosen:
            msg = f"extractors: {OWN} is the name of the data set's own; choose another name"
            raise ValueError(msg)
        if self.primary_extractor not in (None, OWN, *active):
            msg = (
                f"primary_extractor is {self.primary_extractor!r}; expected null, {OWN} or an "
                f"extractor with weights (there are: {', '.join(active) or 'none'})"
            )
            raise ValueError(msg)
        check_names(self.samplers or [])
        return self
