"""What the guidance search compares: average × negative × weight × interval (SiD2 B.4, B.5).

All settings draw the same images (same keys, same conditions). They are compared by the Fréchet
distance to the *train* split: the eval split stays unseen, so the choice does not bias what
``evaluate`` reports of the winner.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config.search import NULL, USUAL
from sid2core.config.training import Ema
from sid2core.diffusion.guidance import (
    AutoGuidance,
    ConstantGuidance,
    Guidance,
    IntervalGuidance,
    NoGuidance,
)
from sid2core.inference import racing
from sid2core.metrics.names import count_name
from sid2core.pipeline.artifact import Artifact


@dataclass(frozen=True)
class Setting:
    """One setting; no bounds mean the whole range of log-SNR.

    Attributes:
        weight: of the guidance; 0 without guidance.
        logsnr_min: lower end of its interval.
        logsnr_max: upper end.
        negative: ``unconditional``, ``step 400`` for a snapshot, or the folder of a model.
        average: of the model's weights: ``usual``, or kind and value, such as ``power 0.1``.
    """

    weight: float
    logsnr_min: float | None = None
    logsnr_max: float | None = None
    negative: str = NULL
    average: str = USUAL

    @property
    def guidance(self) -> Guidance:
        """What the sampler is given."""
        low, high = self.logsnr_min, self.logsnr_max
        if self.weight == 0.0:
            return NoGuidance()
        if self.negative != NULL:
            return AutoGuidance(self.weight, low, high)
        if low is None or high is None:
            return ConstantGuidance(self.weight)
        return IntervalGuidance(self.weight, low, high)

    @property
    def interval(self) -> str:
        """The interval in words."""
        if self.logsnr_min is None or self.logsnr_max is None:
            return "whole range"
        return f"({self.logsnr_min:g}, {self.logsnr_max:g})"

    @property
    def ema(self) -> Ema | None:
        """The average, as parameters have it."""
        if self.average == USUAL:
            return None
        kind, value = self.average.split()
        return Ema.model_validate({"kind": kind, "value": float(value)})


@dataclass(frozen=True)
class Score:
    """A row of ``grid.csv``: a setting, and how it stood in the last round that it took part in.

    Attributes:
        average: of the model's weights.
        negative: what guidance pushes away from.
        weight: of the guidance.
        logsnr_min: lower end of its interval; None for the whole range.
        logsnr_max: upper end.
        interval: the interval in words.
        fd_train: distance to the train split, as measured.
        fd_train_low: lower end of the confidence interval without the bias of few samples.
        fd_train_high: upper end.
        excess: the distance less that of the best setting of the round, both without their bias.
        excess_low: lower end of its confidence interval; above 0 the setting left.
        excess_high: upper end.
        kept: whether it cannot be distinguished from the best.
        samples: images that it drew.
        agreement: share of images in the class that was asked for, as the classifier sees it.
        nfe: network evaluations an image.
        distance: the name of the distance, which depends on the feature extractor.
    """

    average: str
    negative: str
    weight: float
    logsnr_min: float | None
    logsnr_max: float | None
    interval: str
    fd_train: float
    fd_train_low: float
    fd_train_high: float
    excess: float
    excess_low: float
    excess_high: float
    kept: bool
    samples: int
    agreement: float | None
    nfe: int
    distance: str

    @property
    def setting(self) -> Setting:
        """What was drawn."""
        return setting_of(asdict(self))


def settings(found: config.GuidanceSearch, spec: ConditionSpec) -> list[Setting]:
    """Of each average: weight 0 once, then every weight, interval and negative.

    A model without conditions (``spec``) has no unconditional negative.
    """
    negatives = [_negative(one) for one in found.negatives if spec or one != NULL]
    whole: tuple[float | None, float | None] = (None, None)
    bounds = [whole, *((low, high) for low, high in found.intervals)]
    made = []
    for average in map(_average, found.averages):
        made.append(Setting(0.0, average=average))
        made += [
            Setting(weight, low, high, negative, average)
            for negative, (low, high), weight in itertools.product(negatives, bounds, found.weights)
        ]
    return made


def _negative(one: int | str) -> str:
    return f"step {one}" if isinstance(one, int) else one


def _average(one: str | Ema) -> str:
    return one if isinstance(one, str) else f"{one.kind} {one.value}"


def setting_of(row: Mapping[str, Any]) -> Setting:
    """The setting in a row of ``grid.csv`` or ``best.json``."""
    return Setting(**{one.name: row[one.name] for one in dataclasses.fields(Setting)})


def verdict(scores: Sequence[Score], images: int, confidence: float) -> dict[str, Any]:
    """What ``best.json`` holds.

    ``best`` is the setting with the fewest network evaluations among those that cannot be
    distinguished from the lowest distance, ``kept`` these. ``guided`` is the best setting with
    guidance, ``best`` itself if it has: ``distill`` teaches it. It is None if there is none.

    Args:
        scores: of all settings.
        images: that all of them drew together.
        confidence: at which settings left.
    """
    kept = sorted((one for one in scores if one.kept), key=lambda one: one.excess)
    names = {str(index): one for index, one in enumerate(kept)}
    best = names[racing.cheapest([*names], {name: one.nfe for name, one in names.items()})]
    late = sorted(scores, key=lambda one: (not one.kept, -one.samples, one.excess))
    guided = best if best.weight > 0 else next((one for one in late if one.weight > 0), None)
    return {
        "best": asdict(best),
        "guided": None if guided is None else asdict(guided),
        "kept": [asdict(one) for one in kept],
        "distance": best.distance,
        "samples": max(one.samples for one in scores),
        "images": images,
        "confidence": confidence,
    }


def metrics(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What ``dvc metrics diff`` compares of a verdict."""
    best, guided = (verdict[name] for name in ("best", "guided"))
    name = f"{verdict['distance']}_train_{count_name(best['samples'])}"
    found = {
        "weight": best["weight"],
        "logsnr_min": best["logsnr_min"],
        "logsnr_max": best["logsnr_max"],
        name: round(best["fd_train"], 5),
        f"{name}_low": round(best["fd_train_low"], 5),
        f"{name}_high": round(best["fd_train_high"], 5),
        "kept": len(verdict["kept"]),
        "images": verdict["images"],
    }
    if guided is not None:
        name = f"{verdict['distance']}_train_{count_name(guided['samples'])}"
        found["guided_weight"] = guided["weight"]
        found[f"{name}_guided"] = round(guided["fd_train"], 5)
    return found


def chosen(verdict: Mapping[str, Any]) -> Setting:
    """The setting that a verdict names the best with guidance; without any the best."""
    return setting_of(verdict["guided"] or verdict["best"])


def load(search: Artifact) -> Setting:
    """The best setting with guidance, from the artifact that ``guidance_search`` wrote."""
    return chosen(json.loads(search.path("best.json").read_text(encoding="utf-8")))
