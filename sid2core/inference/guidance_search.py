"""What the guidance search compares (SiD2 B.4, B.5).

A setting is an average, a negative, a weight, an interval, a sampler and its number of steps.

All settings draw the same images (same keys, same conditions). They are compared by the Fréchet
distance to the *train* split: the eval split stays unseen, so the choice does not bias what
``evaluate`` reports of the winner.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
from sid2core.inference.search_table import SETTING_NUMBERS, SETTING_TEXTS, Score
from sid2core.metrics.names import count_name
from sid2core.pipeline.artifact import Artifact

_NAMED = (*SETTING_TEXTS, *SETTING_NUMBERS, "nfe")
"""Of the best setting, and of the best one with guidance, in the metrics."""


@dataclass(frozen=True)
class Setting:
    """One setting; no bounds mean the whole range of log-SNR.

    Attributes:
        weight: of the guidance; 0 without guidance.
        logsnr_min: lower end of its interval.
        logsnr_max: upper end.
        negative: ``unconditional``, ``step 400`` for a snapshot, or the folder of a model.
        average: of the model's weights: ``usual``, or kind and value, such as ``power 0.1``.
        sampler: with its parameters, as :func:`described`; None for that of ``sampling``.
        steps: of the sampler; None for those of ``sampling``.
    """

    weight: float
    logsnr_min: float | None = None
    logsnr_max: float | None = None
    negative: str = NULL
    average: str = USUAL
    sampler: str | None = None
    steps: int | None = None

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


def described(sampler: config.Sampler) -> str:
    """A sampler in a line, its name and its parameters: ``ddpm logvar_fraction=0.3``."""
    values = sampler.settings.model_dump().items()
    # A space within a text would end it.
    texts = (
        json.dumps(value, separators=(",", ":")).replace(" ", r"\u0020") for _, value in values
    )
    pairs = (f"{key}={text}" for (key, _), text in zip(values, texts, strict=True))
    return " ".join([sampler.name, *pairs])


def sampler_of(text: str) -> config.Sampler:
    """The sampler that :func:`described` put into words."""
    name, *pairs = text.split(" ")
    values = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    return config.Sampler.model_validate({"name": name, name: values})


def settings(
    found: config.GuidanceSearch, spec: ConditionSpec, sampling: config.Sampling
) -> list[Setting]:
    """Of each sampler, number of steps and average: weight 0 once, then all kinds of guidance.

    Args:
        found: the section ``guidance_search``.
        spec: what the model is conditioned on; without conditions it has no unconditional negative.
        sampling: whose sampler and steps are taken where ``found`` has none.
    """
    negatives = [_negative(one) for one in found.negatives if spec or one != NULL]
    whole: tuple[float | None, float | None] = (None, None)
    bounds = [whole, *((low, high) for low, high in found.intervals)]
    samplers = [described(one) for one in found.samplers or [sampling.sampler]]
    averages = map(_average, found.averages)
    made = []
    for drawn in itertools.product(samplers, found.steps or [sampling.steps], averages):
        sampler, steps, average = drawn
        made.append(Setting(0.0, average=average, sampler=sampler, steps=steps))
        made += [
            Setting(weight, low, high, negative, average, sampler, steps)
            for negative, (low, high), weight in itertools.product(negatives, bounds, found.weights)
        ]
    return made


def _negative(one: int | str) -> str:
    return f"step {one}" if isinstance(one, int) else one


def _average(one: str | Ema) -> str:
    return one if isinstance(one, str) else f"{one.kind} {one.value}"


def setting_of(row: Mapping[str, Any]) -> Setting:
    """The setting in a row of ``grid.csv`` or ``best.json``."""
    return Setting(**{name: row[name] for name in (*SETTING_TEXTS, *SETTING_NUMBERS)})


def verdict(scores: Sequence[Score], images: int, confidence: float) -> dict[str, Any]:
    """What ``best.json`` holds.

    ``best`` is the setting with the fewest network evaluations among those that cannot be
    distinguished from the lowest distance, ``kept`` these. ``guided`` is the best setting with
    guidance, ``best`` itself if it has. It is None if there is none.

    Args:
        scores: of all settings.
        images: that all of them drew together.
        confidence: at which settings left.
    """
    kept = sorted((one for one in scores if one.kept), key=lambda one: one.excess)
    best = min(kept, key=lambda one: one.nfe)  # of equals the first, which is the nearest
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
        **{column: best[column] for column in _NAMED},
        name: round(best["fd_train"], 5),
        f"{name}_low": round(best["fd_train_low"], 5),
        f"{name}_high": round(best["fd_train_high"], 5),
        "kept": len(verdict["kept"]),
        "images": verdict["images"],
    }
    if guided is not None:
        name = f"{verdict['distance']}_train_{count_name(guided['samples'])}"
        found |= {f"guided_{column}": guided[column] for column in _NAMED}
        found[f"{name}_guided"] = round(guided["fd_train"], 5)
    return found


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        best: the winner, with or without guidance.
        guided: the best setting with guidance; the winner if there is none.
    """

    best: Setting
    guided: Setting

    def teacher(self, kind: Literal["guided", "best"]) -> Setting:
        """The setting that students learn from, as ``distill.teacher`` says."""
        return self.guided if kind == "guided" else self.best

    def further(self, sampling: config.Sampling) -> Setting | None:
        """The winner, where it is neither ``guided`` nor the base model as ``sampling`` draws."""
        plain = Setting(0.0, sampler=described(sampling.sampler), steps=sampling.steps)
        known = [plain, self.guided] if self.guided.weight > 0 else [plain]
        return None if self.best in known else self.best


def chosen(verdict: Mapping[str, Any]) -> Found:
    """The settings that a verdict names."""
    best = setting_of(verdict["best"])
    guided = verdict["guided"]
    return Found(best, best if guided is None else setting_of(guided))


def load(search: Artifact) -> Found:
    """The same from the artifact that ``guidance_search`` wrote."""
    return chosen(json.loads(search.path("best.json").read_text(encoding="utf-8")))
