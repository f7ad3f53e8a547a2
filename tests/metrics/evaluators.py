"""Evaluators whose feature extractor is a formula."""

from dataclasses import dataclass, field

import numpy as np

from sid2core.metrics.evaluator import Evaluator, ReferenceStatistics, moments
from sid2core.metrics.networks.protocol import LOGITS, POOL

PROVENANCE = {"extractor": "classifier", "extractor_digest": "mean and spread"}


@dataclass(frozen=True)
class MeanColour:
    """An image's mean and two more numbers of it; class scores that depend on its mean."""

    scale: float = 1.0
    name: str = "classifier"
    distance: str = "fd"
    kernel: str = "kd"
    provenance: dict = field(default_factory=lambda: PROVENANCE)
    widths = {POOL: 3, LOGITS: 3}

    def check(self, shape):
        """It accepts any."""

    def features(self, images):
        values = images.reshape(len(images), -1).astype(np.float32)
        pool = np.stack([values.mean(1), values.std(1), values[:, 0] - values[:, -1]], 1)
        logits = -np.abs(pool[:, :1] - np.float32([64, 128, 192]))
        return {POOL: np.float32(self.scale) * pool, LOGITS: logits}

    def save(self, file):
        """It has no weights."""


def mean_colour_evaluator(**provenance):
    """One extractor, and reference statistics of noise."""
    extractor, random = MeanColour(), np.random.default_rng(0)
    found, entries = {}, {**PROVENANCE, "crop": "adm", **provenance}
    for split, high in (("train", 256), ("eval", 200)):
        images = random.integers(0, high, (60, 4, 4, 1), dtype=np.uint8)
        features = extractor.features(images)[POOL]
        found[split] = moments(features, {**entries, "split": split, "data": "noise"})
    reference = ReferenceStatistics(extractor, found, {}, features)
    return Evaluator((reference,), reference)
