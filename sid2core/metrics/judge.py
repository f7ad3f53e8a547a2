"""The extractor and both splits' moments, as the reference stage wrote them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.artifact import Artifact
from sid2core.metrics.extractor import Extractor
from sid2core.metrics.quality import Quality, QualityMeter, measure
from sid2core.metrics.statistics import Moments


@dataclass(frozen=True, eq=False)
class Judge:
    """What generated images are judged by."""

    extractor: Extractor
    train: Moments
    held_out: Moments
    """The eval split's."""

    @classmethod
    def load(cls, reference: Artifact) -> Judge:
        """Read all three from the artifact.

        Raises:
            MetricsError: a file cannot be read.
        """
        train, held_out = (
            Moments.load(reference.path(f"{name}.npz")) for name in ("train", "eval")
        )
        return cls(Extractor.load(reference), train, held_out)

    def meter(self) -> QualityMeter:
        """A fresh meter, for images that come in chunks."""
        return QualityMeter(self.extractor, self.train, self.held_out)

    def quality(self, images: NDArray[np.uint8], labels: ArrayLike) -> Quality:
        """The quality of images [b, h, w, c] that were asked to be of classes [b]."""
        return measure(self.extractor, self.train, self.held_out, images, labels)
