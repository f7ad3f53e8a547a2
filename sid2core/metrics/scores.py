"""All that is measured of a sampler's images, each number with what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core.metrics import (
    frechet,
    inception_score,
    kernel_distance,
    precision_recall,
    uncertainty,
)
from sid2core.metrics.evaluator import Meter, Panel
from sid2core.metrics.networks import inception
from sid2core.metrics.networks.registry import LOGITS, POOL, SPATIAL
from sid2core.metrics.statistics import Moments, distance

LEVEL = 0.9
"""The share of cases in which an interval holds the distance of infinitely many samples."""
_IS = "inception_score"


@dataclass(frozen=True)
class Score:
    """One number; what it has no use for is None.

    Attributes:
        extractor: whose features it is of.
        metric: its name.
        samples: of how many images it is.
        value: the number.
        low: of the interval that holds the distance of infinitely many images in 90 % of cases.
        high: its other end.
        bias: C / N, by how much a distance is expected to be too large, of N images of the
            reference's own distribution (:func:`sid2core.metrics.frechet.bias_constant`).
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


def of(meter: Meter, panel: Panel, published: Moments | None, *, infinity: bool) -> list[Score]:
    """Every score of one gauge.

    Args:
        meter: the images.
        panel: the gauge, with its reference.
        published: a further reference, from outside (``eval.reference_stats``).
        infinity: whether to extrapolate the distance to infinitely many images.

    Raises:
        MetricsError: too few images, or statistics that cannot be compared.
    """
    pool, logits = meter.features(panel, POOL), None
    if panel.gauge.name == inception.NAME:
        logits = meter.features(panel, LOGITS)
    references = dict(panel.moments)
    if published is not None:
        references["published"] = published
    found = [
        *_distances(meter, panel, POOL, references, infinity),
        *_sets(panel, pool),
        *_distances(meter, panel, SPATIAL, panel.spatial, infinity=False),
    ]
    if logits is not None:
        score = inception_score.inception_score(logits)
        found.append(Score(panel.gauge.name, _IS, len(pool), score.mean, std=score.std))
    return found


def _distances(
    meter: Meter, panel: Panel, kind: str, references: Mapping[str, Moments], infinity: bool
) -> Iterator[Score]:
    """To each reference, by name; those of sFID's features are called so."""
    gauge, prefix = panel.gauge, "s" if kind == SPATIAL else ""
    for name, reference in references.items():
        features, ours = meter.features(panel, kind), meter.moments(panel, kind)
        around = uncertainty.interval(features, reference, LEVEL)
        metric = f"{prefix}{gauge.distance}_{name}"
        yield Score(
            gauge.name,
            metric,
            len(features),
            distance(ours, reference),
            around.low,
            around.high,
            frechet.bias_constant(reference.sigma) / len(features),
        )
        if infinity:
            value = uncertainty.fid_infinity(features, reference)
            yield Score(gauge.name, f"{metric}_infinity", len(features), value)


def _sets(panel: Panel, pool: NDArray[np.float32]) -> Iterator[Score]:
    """Scores of the samples as a set beside some images of the train split."""
    name, count, real = panel.gauge.name, len(pool), panel.real
    kernel = kernel_distance.kid(pool, real)
    yield Score(name, f"{panel.gauge.kernel}_train", count, kernel.mean, std=kernel.std)
    near = precision_recall.precision_recall(real, pool)
    wide = precision_recall.density_coverage(real, pool)
    for metric, value in (*near._asdict().items(), *wide._asdict().items()):
        yield Score(name, metric, count, value)
