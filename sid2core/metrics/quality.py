"""How good generated images are, judged by the data set's own feature extractor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.extractor import Extractor
from sid2core.metrics.statistics import FeatureStatistics, Moments


@dataclass(frozen=True)
class Quality:
    """Scores of a number of generated images."""

    samples: int
    fd_train: float
    """Fréchet distance to the train split's images."""
    fd_eval: float
    """Fréchet distance to the eval split's images."""
    agreement: float
    """Share of images in which the extractor's classifier sees the class that was asked for."""


class QualityMeter:
    """Gathers generated images chunk by chunk; how they are cut into chunks does not matter."""

    def __init__(self, extractor: Extractor, train: Moments, held_out: Moments) -> None:
        """Judge by ``extractor`` against its own moments of the train and the eval split.

        Raises:
            MetricsError: the moments are of another extractor.
        """
        self._extractor, self._train, self._held_out = extractor, train, held_out
        size = extractor.architecture.feature_size
        self._statistics = FeatureStatistics.of(np.empty((0, size)))
        self._agreed = 0
        for reference in (train, held_out):
            statistics.check_comparable(extractor.provenance, reference.provenance)

    def add(self, images: NDArray[np.uint8], labels: ArrayLike) -> None:
        """Take in raw images [b, h, w, c] and the classes that were asked for [b].

        Raises:
            MetricsError: as many labels as images are needed, of the extractor's shape.
        """
        wanted = np.asarray(labels)
        if wanted.shape != images.shape[:1]:
            msg = (
                f"{len(images)} images came with labels of shape {wanted.shape}; expected one each"
            )
            raise MetricsError(msg)
        features, logits = self._extractor.features(images)
        self._statistics = self._statistics.merge(FeatureStatistics.of(features))
        self._agreed += int((logits.argmax(axis=-1) == wanted).sum())

    def result(self) -> Quality:
        """The scores of all images so far.

        Raises:
            MetricsError: fewer than two images.
        """
        count = self._statistics.n
        moments = self._statistics.moments(self._extractor.provenance)
        return Quality(
            count,
            statistics.distance(moments, self._train),
            statistics.distance(moments, self._held_out),
            self._agreed / count,
        )


def measure(
    extractor: Extractor,
    train: Moments,
    held_out: Moments,
    images: NDArray[np.uint8],
    labels: ArrayLike,
) -> Quality:
    """The quality of images that are at hand all at once; errors as :class:`QualityMeter`."""
    meter = QualityMeter(extractor, train, held_out)
    meter.add(images, labels)
    return meter.result()
