"""All scores of a sampler's images, each with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core.metrics import (
    inception_score,
    kernel_distance,
    precision_recall,
    uncertainty,
)
from sid2core.metrics.evaluator import Accumulator, ReferenceStatistics
from sid2core.metrics.networks import inception
from sid2core.metrics.networks.protocol import LOGITS, POOL, SPATIAL
from sid2core.metrics.provenance import check_comparable
from sid2core.metrics.statistics import Moments

LEVEL = 0.9
"""Confidence level of the intervals."""
_IS = "inception_score"


@dataclass(frozen=True)
class Score:
    """One score; None stands in the fields that do not apply to it.

    Attributes:
        extractor: the feature extractor.
        metric: its name.
        samples: the number of images.
        value: the number.
        low: lower end of the 90 % confidence interval of the bias-corrected distance.
        high: its upper end.
        bias: C / N, the expected distance of N images of the reference's own distribution
            (:func:`sid2core.metrics.frechet.bias_constant`).
        std: the spread over subsets or splits, as published beside the number.
    """

    extractor: str
    metric: str
    samples: int
    value: float
    low: float | None = None
    high: float | None = None
    bias: float | None = None
    std: float | None = None


def of(
    accumulator: Accumulator,
    reference: ReferenceStatistics,
    further: Mapping[str, Moments],
    *,
    infinity: bool,
) -> list[Score]:
    """Every score of one extractor.

    Args:
        accumulator: the images.
        reference: the extractor, with its reference statistics.
        further: references beside both splits, such as ``published`` (``eval.reference_stats``).
        infinity: whether to extrapolate the distance to infinitely many images.

    Raises:
        MetricsError: too few images, or statistics that cannot be compared.
    """
    pool, logits = accumulator.features(reference, POOL), None
    if reference.extractor.name == inception.NAME:
        logits = accumulator.features(reference, LOGITS)
    targets = {**reference.moments, **further}
    found = [
        *_distances(accumulator, reference, POOL, targets, infinity),
        *_sets(reference, pool),
        *_distances(accumulator, reference, SPATIAL, reference.spatial, infinity=False),
    ]
    if logits is not None:
        score = inception_score.inception_score(logits)
        found.append(Score(reference.extractor.name, _IS, len(pool), score.mean, std=score.std))
    return found


def _distances(
    accumulator: Accumulator,
    reference: ReferenceStatistics,
    kind: str,
    targets: Mapping[str, Moments],
    infinity: bool,
) -> Iterator[Score]:
    """The distances to all targets; an ``s`` marks the features of sFID."""
    if not targets:
        return
    extractor, prefix = reference.extractor, "s" if kind == SPATIAL else ""
    features, own = accumulator.features(reference, kind), accumulator.moments(reference, kind)
    for target in targets.values():
        check_comparable(own.provenance, target.provenance)
    references = list(targets.values())
    strata = accumulator.strata()
    around = uncertainty.intervals(features, references, LEVEL, moments=own, strata=strata)
    limits = []
    if infinity:
        limits = uncertainty.extrapolations(features, references, strata=strata)
    for index, (name, target) in enumerate(targets.items()):
        metric, interval = f"{prefix}{extractor.distance}_{name}", around[index]
        bias = target.bias_constant / len(features)
        yield Score(
            extractor.name,
            metric,
            len(features),
            interval.distance,
            interval.low,
            interval.high,
            bias,
        )
        if infinity:
            yield Score(extractor.name, f"{metric}_infinity", len(features), limits[index])


def _sets(reference: ReferenceStatistics, pool: NDArray[np.float32]) -> Iterator[Score]:
    """Scores that compare the samples with some images of the train split, without moments."""
    name, count, real = reference.extractor.name, len(pool), reference.train_features
    kernel = kernel_distance.kid(pool, real)
    yield Score(name, f"{reference.extractor.kernel}_train", count, kernel.mean, std=kernel.std)
    near = precision_recall.precision_recall(real, pool)
    wide = precision_recall.density_coverage(real, pool)
    for metric, value in (*near._asdict().items(), *wide._asdict().items()):
        yield Score(name, metric, count, value)
