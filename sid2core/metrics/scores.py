"""All that is measured of a sampler's images, each number with what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core.metrics import (
    divergence,
    frechet,
    inception,
    kernel_distance,
    manifold,
    uncertainty,
)
from sid2core.metrics.gauges import LOGITS, POOL, SPATIAL
from sid2core.metrics.judge import SPLITS, Meter, Panel
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
    found = [*_distances(meter, panel, pool, published, infinity), *_sets(panel, pool)]
    for split, reference in panel.spatial.items():
        value = distance(meter.moments(panel, SPATIAL), reference)
        found.append(Score(panel.gauge.name, f"s{panel.gauge.distance}_{split}", len(pool), value))
    if logits is not None:
        score = divergence.inception_score(logits)
        found.append(Score(panel.gauge.name, _IS, len(pool), score.mean, std=score.std))
    return found


def _distances(
    meter: Meter,
    panel: Panel,
    pool: NDArray[np.float32],
    published: Moments | None,
    infinity: bool,
) -> Iterator[Score]:
    gauge, ours = panel.gauge, meter.moments(panel)
    references = {split: panel.moments[split] for split in SPLITS}
    if published is not None:
        references["published"] = published
    for name, reference in references.items():
        value = distance(ours, reference)
        around = uncertainty.interval(pool, reference, LEVEL)
        yield Score(
            gauge.name,
            f"{gauge.distance}_{name}",
            len(pool),
            value,
            around.low,
            around.high,
            frechet.bias_constant(reference.sigma) / len(pool),
        )
        if infinity:
            value = uncertainty.fid_infinity(pool, reference)
            yield Score(gauge.name, f"{gauge.distance}_{name}_infinity", len(pool), value)


def _sets(panel: Panel, pool: NDArray[np.float32]) -> Iterator[Score]:
    """Scores of the samples as a set beside some images of the train split."""
    name, count, real = panel.gauge.name, len(pool), panel.real
    kernel = kernel_distance.kid(pool, real)
    yield Score(name, f"{panel.gauge.kernel}_train", count, kernel.mean, std=kernel.std)
    near = manifold.precision_recall(real, pool)
    wide = manifold.density_coverage(real, pool)
    for metric, value in (*near._asdict().items(), *wide._asdict().items()):
        yield Score(name, metric, count, value)
