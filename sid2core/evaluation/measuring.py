"""What is measured of an image set: a quick quality for searches, all scores for the evaluation."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sid2core import config
from sid2core.evaluation import drawing
from sid2core.evaluation.clips.baselines import WINDOWS
from sid2core.evaluation.drawing import EvaluationRun, Measured, RealSet, SampleSet
from sid2core.metrics import scores
from sid2core.metrics.captions import scores as caption_scores
from sid2core.metrics.captions.extractor import ATTRIBUTES, VECTOR
from sid2core.metrics.captions.extractor import NAME as CAPTIONS
from sid2core.metrics.evaluator import Accumulator, Evaluator, ReferenceStatistics
from sid2core.metrics.names import count_name
from sid2core.metrics.networks import inception
from sid2core.metrics.networks.clip import CLIP
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.quality import Quality
from sid2core.metrics.scores import Score
from sid2core.metrics.statistics import Moments

_log = logging.getLogger(__name__)


def quality(accumulator: Accumulator) -> Measured:
    """The fields of :class:`Quality`.

    Raises:
        MetricsError: fewer than two images.
    """
    return asdict(accumulator.quality())


def qualities(measured: Mapping[str, Measured], sets: Iterable[SampleSet]) -> list[Quality]:
    """What :func:`quality` measured of some of the sets."""
    return [Quality(**measured[one.name]) for one in sets]


def distillation_metrics(one: SampleSet, run: EvaluationRun) -> dict[str, float]:
    """Draw and measure one sampler; its metrics as ``distill`` reports them.

    Raises:
        MetricsError: fewer than two images.
    """
    (found,) = qualities(drawing.draw_and_measure([one], run, quality), [one])
    name, count = f"{found.distance}_train", count_name(found.samples)
    metrics = {f"{name}_{count}": round(found.fd_train, 5)}
    if found.agreement is not None:
        metrics[f"agreement_{count}"] = round(found.agreement, 5)
    _log.info("%s: %s", one.name, ", ".join(f"{key} {value}" for key, value in metrics.items()))
    return metrics | {"nfe": one.spec.method.nfe}


@dataclass(frozen=True)
class Measurement:
    """All scores of an image set.

    Attributes:
        scores: by every feature extractor, those of the data set's own first.
        agreement: the share of images that the data set's classifier assigns to the class they
            were sampled for; None for images without a class.
    """

    scores: Sequence[Score]
    agreement: float | None

    @classmethod
    def of_json(cls, value: Measured) -> Measurement:
        """What :func:`all_scores` returned."""
        return cls([Score(**one) for one in value["scores"]], value["agreement"])


def joined(measured: Mapping[str, Measured]) -> dict[str, Measurement]:
    """What :func:`all_scores` measured, by sampler or baseline.

    Of several repeats (sets ``<sampler>/…``) the means, and the standard deviation of each score
    between them.
    """
    by_name = dict[str, list[Measurement]]()
    for name, value in measured.items():
        by_name.setdefault(name.split("/")[0], []).append(Measurement.of_json(value))
    return {name: _joined(repeats) for name, repeats in by_name.items()}


def _joined(repeats: Sequence[Measurement]) -> Measurement:
    if len(repeats) == 1:
        return repeats[0]
    found = []
    for same in zip(*(one.scores for one in repeats), strict=True):
        means = {name: _mean([getattr(one, name) for one in same]) for name in _NUMBERS}
        spread = statistics.stdev(one.value for one in same)
        found.append(Score(**(asdict(same[0]) | means | {"std": spread})))
    return Measurement(found, _mean([one.agreement for one in repeats]))


_NUMBERS = ("value", "low", "high", "bias")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def real_windows(windows: RealSet | None, run: EvaluationRun) -> dict[str, Moments]:
    """The statistics of the real clips of the samples' own conditions, by extractor.

    Args:
        windows: those clips; None if there are none.
        run: where and how.
    """
    if windows is None:
        return {}
    drawing.draw_and_measure([windows], run, lambda accumulator: {})
    accumulator = drawing.read(windows, run).accumulator
    return {one.extractor.name: accumulator.moments(one) for one in run.evaluator.references}


def all_scores(
    accumulator: Accumulator,
    evaluator: Evaluator,
    settings: config.Eval,
    windows: Mapping[str, Moments] | None = None,
) -> dict[str, Any]:
    """The fields of :class:`Measurement`.

    Args:
        accumulator: the samples.
        evaluator: the extractors.
        settings: the section ``eval``.
        windows: what :func:`real_windows` found.

    Raises:
        MetricsError: the published statistics cannot be read, or cannot be compared.
    """
    found = [
        asdict(score)
        for reference in evaluator.references
        for score in scores.of(
            accumulator,
            reference,
            _further(reference, settings, windows or {}),
            infinity=settings.infinity,
        )
    ]
    found += [asdict(score) for score in _of_captions(accumulator, evaluator)]
    return {"scores": found, "agreement": accumulator.agreement()}


def _of_captions(accumulator: Accumulator, evaluator: Evaluator) -> Iterator[Score]:
    """How well images fit what they were made for, where the data have captions."""
    extractor, asked = evaluator.captions, accumulator.asked
    if asked is None:
        return
    for reference in evaluator.references:
        if isinstance(reference.extractor, CLIP):
            pool = accumulator.features(reference, POOL)
            value = caption_scores.clip_score(pool, reference.extractor.texts, asked.captions)
            yield Score(reference.extractor.name, "clip_score", len(pool), value)
    if extractor is not None:
        found = {kind: accumulator.named(f"{CAPTIONS}.{kind}") for kind in extractor.widths}
        given = found.get(ATTRIBUTES)
        yield from caption_scores.of(extractor.design, extractor.texts, asked, found[VECTOR], given)


def _further(
    reference: ReferenceStatistics, settings: config.Eval, windows: Mapping[str, Moments]
) -> dict[str, Moments]:
    """References beside both splits: ``eval.reference_stats``, and the clips of the conditions."""
    name = reference.extractor.name
    found = {WINDOWS: windows[name]} if name in windows else {}
    if settings.reference_stats is None or name != settings.published_extractor:
        return found
    declaration = {"extractor": name}
    if name == inception.NAME:
        declaration["mode"] = reference.extractor.provenance["mode"]
    size = reference.moments["train"].mu.size
    published = Moments.published(Path(settings.reference_stats), declaration, size=size)
    return {"published": published} | found
