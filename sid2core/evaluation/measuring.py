"""What is measured of an image set: a quick quality for searches, all scores for the evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sid2core import config
from sid2core.evaluation import drawing
from sid2core.evaluation.drawing import EvaluationRun, Measured, SampleSet
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


def all_scores(
    accumulator: Accumulator, evaluator: Evaluator, settings: config.Eval
) -> dict[str, Any]:
    """The fields of :class:`Measurement`.

    Raises:
        MetricsError: the published statistics cannot be read, or cannot be compared.
    """
    found = [
        asdict(score)
        for reference in evaluator.references
        for score in scores.of(
            accumulator, reference, _published(reference, settings), infinity=settings.infinity
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


def _published(reference: ReferenceStatistics, settings: config.Eval) -> Moments | None:
    """``eval.reference_stats``, for the extractor that they are of."""
    if settings.reference_stats is None or reference.extractor.name != inception.NAME:
        return None
    declaration = {"extractor": inception.NAME, "mode": reference.extractor.provenance["mode"]}
    size = reference.moments["train"].mu.size
    return Moments.published(Path(settings.reference_stats), declaration, size=size)
