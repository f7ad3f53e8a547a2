"""The grid search over guidance: weight × interval of log-SNR (SiD2 supplement B.4).

Every cell draws the same images (same keys, same conditions), so cells differ by their guidance
alone. A cell is scored by the Fréchet distance to the *train* split. The eval split stays unseen,
so the choice does not bias what ``evaluate`` reports of the winner.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
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
    """The name of the distance, which depends on the feature extractor."""


def grid(settings: config.GuidanceSearch, spec: ConditionSpec) -> list[Cell]:
    """Weight 0 once, then every weight on the whole range and on every interval.

    A model without conditions (``spec``) has nothing to be guided away from: weight 0 alone.
    """
    if not spec:
        return [Cell(0.0)]
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
    """The best cell, the runner-up, the best with guidance, and the noise between seeds.

    ``noise`` is the pooled standard deviation of one cell's distance between seeds; the mean of
    r repeats has noise / sqrt(r). ``guided`` is ``best`` itself unless that has no guidance:
    ``distill`` teaches it, and ``evaluate`` shows it beside the unguided sampler. If there is no
    second cell, or none with guidance, ``runner_up`` or ``guided`` is None.
    """
    ordered = sorted(scores, key=lambda one: one.fd_train_mean)
    best, runner_up = ordered[0], ordered[1] if len(ordered) > 1 else None
    guided = next((one for one in ordered if one.weight > 0.0), None)
    pooled = math.sqrt(statistics.fmean(one.fd_train_std**2 for one in scores))
    return {
        "best": asdict(best),
        "runner_up": None if runner_up is None else asdict(runner_up),
        "guided": None if guided is None else asdict(guided),
        "noise": round(pooled, 6),
        "distance": best.distance,
        "samples": best.samples,
        "repeats": best.repeats,
    }


def metrics(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares of a verdict."""
    best, runner_up, guided = (verdict[name] for name in ("best", "runner_up", "guided"))
    name = f"{verdict['distance']}_train_{count_name(verdict['samples'])}"
    found = {
        "weight": best["weight"],
        "logsnr_min": best["logsnr_min"],
        "logsnr_max": best["logsnr_max"],
        name: round(best["fd_train_mean"], 5),
    }
    if runner_up is not None:
        found[f"{name}_runner_up"] = round(runner_up["fd_train_mean"], 5)
    found[f"{name}_noise"] = round(verdict["noise"], 5)
    if guided is not None:
        found["guided_weight"] = guided["weight"]
        found[f"{name}_guided"] = round(guided["fd_train_mean"], 5)
    return found


def chosen(verdict: Mapping[str, Any]) -> Cell:
    """The cell that a verdict names the best with guidance; without any the one of weight 0."""
    guided = verdict["guided"]
    if guided is None:
        return Cell(0.0)
    return Cell(guided["weight"], guided["logsnr_min"], guided["logsnr_max"])


def load(search: Artifact) -> Cell:
    """The best cell with guidance, from the artifact that ``guidance_search`` wrote."""
    return chosen(json.loads(search.path("best.json").read_text(encoding="utf-8")))
