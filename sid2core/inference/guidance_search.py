"""The grid search over guidance: weight × interval of log-SNR (SiD2 supplement B.4).

Every cell draws the same images (same keys, same labels), so cells differ by their guidance alone.
A cell is scored by the Fréchet distance to the *train* split: the eval split stays unseen, so what
``evaluate`` says of the winner is not biased by having been chosen.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sid2core import config
from sid2core.diffusion.guidance import (
    ConstantGuidance,
    Guidance,
    IntervalGuidance,
    NoGuidance,
)
from sid2core.metrics.names import count_name
from sid2core.metrics.quality import Quality
from sid2core.pipeline.artifact import Artifact


@dataclass(frozen=True)
class Cell:
    """One setting of the grid; no bounds mean the whole range of log-SNR."""

    weight: float
    logsnr_min: float | None = None
    logsnr_max: float | None = None

    @property
    def guidance(self) -> Guidance:
        """What the sampler is given."""
        if self.weight == 0.0:
            return NoGuidance()
        if self.logsnr_min is None or self.logsnr_max is None:
            return ConstantGuidance(self.weight)
        return IntervalGuidance(self.weight, self.logsnr_min, self.logsnr_max)

    @property
    def interval(self) -> str:
        """The interval in words."""
        if self.logsnr_min is None or self.logsnr_max is None:
            return "whole range"
        return f"({self.logsnr_min:g}, {self.logsnr_max:g})"


@dataclass(frozen=True)
class Score:
    """A cell's quality over repeated seeds; ``fd_train_std`` is the noise between them."""

    weight: float
    logsnr_min: float | None
    logsnr_max: float | None
    interval: str
    fd_train_mean: float
    fd_train_std: float
    agreement: float | None
    nfe: int
    repeats: int
    samples: int
    distance: str
    """What the distance is called: of whose features it is."""


def grid(settings: config.GuidanceSearch) -> list[Cell]:
    """Weight 0 once, then every weight on the whole range and on every interval."""
    bounds: list[Sequence[float | None]] = [(None, None), *settings.intervals]
    return [Cell(0.0)] + [Cell(weight, *pair) for pair in bounds for weight in settings.weights]


def score(cell: Cell, nfe: int, repeats: Sequence[Quality]) -> Score:
    """Join the qualities of one cell's repeats."""
    distances = [quality.fd_train for quality in repeats]
    return Score(
        weight=cell.weight,
        logsnr_min=cell.logsnr_min,
        logsnr_max=cell.logsnr_max,
        interval=cell.interval,
        fd_train_mean=round(statistics.fmean(distances), 6),
        fd_train_std=round(statistics.stdev(distances), 6),
        agreement=_mean([quality.agreement for quality in repeats]),
        nfe=nfe,
        repeats=len(repeats),
        samples=repeats[0].samples,
        distance=repeats[0].distance,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 6) if len(known) == len(values) else None


def verdict(scores: Sequence[Score]) -> dict[str, Any]:
    """The best cell, the runner-up, the best with guidance, and the noise to judge them by.

    ``noise`` is the pooled standard deviation of one cell's distance between seeds; the mean of
    r repeats has noise / sqrt(r). ``guided`` is ``best`` itself unless that has no guidance: it is
    what ``distill`` teaches and ``evaluate`` sets beside the unguided sampler.
    """
    ordered = sorted(scores, key=lambda one: one.fd_train_mean)
    best, runner_up = ordered[:2]
    guided = next(one for one in ordered if one.weight > 0.0)
    pooled = math.sqrt(statistics.fmean(one.fd_train_std**2 for one in scores))
    return {
        "best": asdict(best),
        "runner_up": asdict(runner_up),
        "guided": asdict(guided),
        "noise": round(pooled, 6),
        "distance": best.distance,
        "samples": best.samples,
        "repeats": best.repeats,
    }


def metrics(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares of a verdict."""
    best, guided = verdict["best"], verdict["guided"]
    name = f"{verdict['distance']}_train_{count_name(verdict['samples'])}"
    return {
        "weight": best["weight"],
        "logsnr_min": best["logsnr_min"],
        "logsnr_max": best["logsnr_max"],
        name: round(best["fd_train_mean"], 5),
        f"{name}_runner_up": round(verdict["runner_up"]["fd_train_mean"], 5),
        f"{name}_noise": round(verdict["noise"], 5),
        "guided_weight": guided["weight"],
        f"{name}_guided": round(guided["fd_train_mean"], 5),
    }


def chosen(verdict: Mapping[str, Any]) -> Cell:
    """The cell that a verdict names the best with guidance."""
    guided = verdict["guided"]
    return Cell(guided["weight"], guided["logsnr_min"], guided["logsnr_max"])


def load(search: Artifact) -> Cell:
    """The best cell with guidance, from the artifact that ``guidance_search`` wrote."""
    return chosen(json.loads(search.path("best.json").read_text(encoding="utf-8")))
