"""Entries of ``eval.samplers``: samplers that ``evaluate`` measures beside its own.

As in :mod:`sid2core.config`, types and bounds only. An entry with several samplers, steps or kinds
of guidance is their Cartesian product, one row each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from sid2core.config.diffusion import Sampler, SamplerEntry
from sid2core.config.search import NULL, USUAL
from sid2core.config.section import FilePath, Finite, Positive, PositiveFloat, Section
from sid2core.config.training import Ema

BUILT_IN = (
    *("base", "constant", "searched", "winner"),
    *("train_images", "copy_last", "other_clips"),
)
"""Names of the rows that ``evaluate`` has without ``eval.samplers``."""
STUDENT, SNAPSHOT = "student_", "snapshot_"
"""How names of further such rows begin."""
SEARCHED, NONE = _WORDS = "searched", "none"


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


class OwnGuidance(Section):
    """A guidance: on the whole range of log-SNR without an interval; negatives as of the search."""

    weight: PositiveFloat
    interval: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    negative: Positive | FilePath = NULL

    @model_validator(mode="after")
    def _fitting(self) -> OwnGuidance:
        if self.interval is not None and self.interval[0] >= self.interval[1]:
            msg = f"interval {self.interval} is empty; write [lower, upper] log-SNR"
            raise ValueError(msg)
        return self


Weights = Ema | Positive | FilePath
"""An average, a step of ``train.snapshots``, or a folder; :data:`USUAL` is the usual average."""
GuidanceKind = str | OwnGuidance
"""A guidance, :data:`NONE` or :data:`SEARCHED`."""
_Samplers = Annotated[list[SamplerEntry], Field(min_length=1), BeforeValidator(_listed)]
_Steps = Annotated[list[Positive], Field(min_length=1), BeforeValidator(_listed)]
_Least2 = Annotated[int, Field(ge=2, le=1_000_000)]  # guidance evaluates two networks at once
_Evaluations = Annotated[list[_Least2], Field(min_length=1), BeforeValidator(_listed)]
_Guidance = Annotated[list[GuidanceKind], Field(min_length=1), BeforeValidator(_listed)]


@dataclass(frozen=True)
class NamedSampler:
    """One row; either ``steps`` or ``nfe`` is None.

    Attributes:
        entry: the name of its entry.
        name: in files and metrics.
        weights: of the model.
        sampler: with its parameters.
        steps: of the sampler.
        nfe: the most network evaluations an image; as many steps as fit are taken.
        guidance: how the sampler is guided.
    """

    entry: str
    name: str
    weights: Weights
    sampler: Sampler
    steps: int | None
    nfe: int | None
    guidance: GuidanceKind


class NamedSamplers(Section):
    """An entry; keys other than ``name`` and ``sampler`` may be left out."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    weights: Weights = USUAL
    sampler: _Samplers
    steps: _Steps | None = None
    nfe: _Evaluations | None = None
    guidance: _Guidance = [NONE]

    @model_validator(mode="after")
    def _fitting(self) -> NamedSamplers:
        if (self.steps is None) == (self.nfe is None):
            msg = (
                f"{self.name} has steps {self.steps} and nfe {self.nfe}; give one of them: the "
                "steps, or the most network evaluations of an image"
            )
            raise ValueError(msg)
        wrong = [one for one in self.guidance if isinstance(one, str) and one not in _WORDS]
        if wrong:
            msg = (
                f"{self.name} has guidance {wrong[0]!r}; expected {NONE}, {SEARCHED} or a section "
                "with weight"
            )
            raise ValueError(msg)
        return self

    def rows(self) -> Iterator[NamedSampler]:
        """All combinations; what several values tell apart is part of the name."""
        counts = self.steps or self.nfe or []
        for sampler, guidance, count in itertools.product(self.sampler, self.guidance, counts):
            parts = [
                self.name,
                sampler.name if len(self.sampler) > 1 else "",
                str(count) if len(counts) > 1 else "",
                _suffix(guidance) if len(self.guidance) > 1 else "",
            ]
            steps, nfe = (count, None) if self.nfe is None else (None, count)
            name = "_".join(filter(None, parts))
            yield NamedSampler(self.name, name, self.weights, sampler, steps, nfe, guidance)


def _suffix(guidance: GuidanceKind) -> str:
    """What tells rows of an entry with several kinds of guidance apart."""
    if isinstance(guidance, OwnGuidance):
        return f"guided_{guidance.weight:g}".replace(".", "_")
    return "" if guidance == NONE else guidance


def check_names(entries: Sequence[NamedSamplers]) -> None:
    """Refuse rows of one name, or of the name of a row that ``evaluate`` has anyway.

    Raises:
        ValueError: the name, and how to change it.
    """
    seen = set[str]()
    for index, entry in enumerate(entries):
        for row in entry.rows():
            built_in = row.name in BUILT_IN or row.name.startswith((STUDENT, SNAPSHOT))
            if row.name in seen or built_in:
                of = "one of evaluate's own rows" if built_in else "an earlier row"
                msg = (
                    f"samplers.{index}: {row.name} is the name of {of}; choose another name for "
                    "the entry, or give values that have equal names an entry each"
                )
                raise ValueError(msg)
            seen.add(row.name)
