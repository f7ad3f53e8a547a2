"""The race of the guidance search: draw, measure, decide who stays, round by round."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from sid2core import conditioning, config, rng
from sid2core.conditioning import Condition
from sid2core.evaluation import drawing
from sid2core.evaluation.drawing import EvaluationRun, Measured, SampleSet
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.inference import racing
from sid2core.inference.guidance_search import Setting
from sid2core.inference.racing import Standing
from sid2core.inference.search_table import Score
from sid2core.metrics import uncertainty
from sid2core.metrics.evaluator import Accumulator, Evaluator
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.quality import Quality
from sid2core.metrics.uncertainty import Expansion

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Runner:
    """A setting, and what draws its images."""

    setting: Setting
    spec: SamplerSpec


def distinct(runners: Sequence[Runner]) -> list[Runner]:
    """Without settings that draw what an earlier one draws, which is logged.

    Those are intervals that contain the same evaluations, or none: without guidance.
    """
    found = dict[tuple[Any, ...], Runner]()
    for one in runners:
        setting, method = one.setting, one.spec.method
        acts = (setting.weight, setting.negative) if method.guided else None
        drawn = acts, setting.average, setting.sampler, setting.steps, *method.plan.runs
        first = found.setdefault(drawn, one)
        if first is not one:
            _log.warning(
                "weight %g on %s is left out: with %d steps it is the same as weight %g on %s",
                *(setting.weight, setting.interval, method.steps),
                *(first.setting.weight, first.setting.interval),
            )
    return [*found.values()]


def run(
    runners: Sequence[Runner],
    condition: Condition,
    settings: config.GuidanceSearch,
    where: EvaluationRun,
    seed: int,
) -> tuple[list[Score], int]:
    """Spend samples until the race is settled, or all are drawn, or the budget is spent.

    ``strategy: grid`` is a race of one round. Every process decides alike.

    Args:
        runners: the settings; names of their samplers differ.
        condition: of ``settings.samples`` images.
        settings: the section ``guidance_search``.
        where: where and how samples are drawn; ``images_per_chunk`` is ``settings.first``.
        seed: of the noise; every setting has the same.

    Returns:
        The score of each setting, and how many images were drawn.

    Raises:
        MetricsError: fewer than four images.
    """
    first = settings.samples if settings.strategy == "grid" else settings.first
    counts = racing.rounds(settings.samples, first)
    named = {one.spec.name: one for one in runners}
    kept, scores, images, before = [*named], dict[str, Score](), 0, 0
    for count in counts:
        cost = (count - before) * len(kept)
        if before and settings.budget is not None and images + cost > settings.budget:
            break
        images, before = images + cost, count
        measured = _measured([named[name].spec for name in kept], condition, count, where, seed)
        expansions = {name: _expansion(measured[name]) for name in kept}
        found = racing.standing(expansions, settings.confidence, len(counts), settings.tolerance)
        for name in kept:
            scores[name] = _score(named[name], measured[name], expansions[name], found, settings)
        kept = [*found.kept]
        if found.settled:
            break
    return [scores[name] for name in named], images


def _measured(
    specs: Sequence[SamplerSpec], condition: Condition, count: int, where: EvaluationRun, seed: int
) -> Mapping[str, Measured]:
    stream, part = rng.key(seed, "guidance_search"), slice(count)
    sets = [
        SampleSet(spec.name, spec, stream, np.arange(count), conditioning.taken(condition, part))
        for spec in specs
    ]
    return drawing.draw_and_measure(sets, where, partial(_measure, evaluator=where.evaluator))


def _measure(accumulator: Accumulator, evaluator: Evaluator) -> Measured:
    """The quality, and the expansion of the distance to the train split."""
    reference = evaluator.primary
    (expansion,) = uncertainty.expansions(
        accumulator.features(reference, POOL),
        [reference.moments["train"].normal],
        moments=accumulator.moments(reference),
        strata=accumulator.strata(),
    )
    arrays = {"influence": expansion.influence, "halves": expansion.halves}
    return {
        "quality": asdict(accumulator.quality()),
        "distance": expansion.distance,
        **{name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()},
    }


def _expansion(measured: Measured) -> Expansion:
    def array(name: str) -> Any:
        return np.frombuffer(base64.b64decode(measured[name]), np.float64)

    return Expansion(measured["distance"], array("influence"), array("halves"))


def _score(
    runner: Runner,
    measured: Measured,
    expansion: Expansion,
    found: Standing,
    settings: config.GuidanceSearch,
) -> Score:
    quality, setting, name = Quality(**measured["quality"]), runner.setting, runner.spec.name
    interval = uncertainty.interval(expansion, settings.confidence)
    excess = found.excess[name]
    return Score(
        average=setting.average,
        negative=setting.negative,
        sampler=setting.sampler or "",
        steps=runner.spec.method.steps,
        weight=setting.weight,
        logsnr_min=setting.logsnr_min,
        logsnr_max=setting.logsnr_max,
        interval=setting.interval,
        fd_train=round(expansion.distance, 6),
        fd_train_low=round(interval.low, 6),
        fd_train_high=round(interval.high, 6),
        excess=round(excess.value, 6),
        excess_low=round(excess.low, 6),
        excess_high=round(excess.high, 6),
        kept=name in found.kept,
        samples=quality.samples,
        agreement=None if quality.agreement is None else round(quality.agreement, 6),
        nfe=runner.spec.method.nfe,
        distance=quality.distance,
    )
