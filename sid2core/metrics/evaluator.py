"""Measures generated images against the statistics of real ones in the reference artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core.conditioning import Condition
from sid2core.metrics.captions.asked import Asked
from sid2core.metrics.captions.extractor import NAME as CAPTIONS
from sid2core.metrics.captions.extractor import CaptionExtractor
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import registry
from sid2core.metrics.networks.protocol import LOGITS, POOL, SPATIAL, FeatureExtractor
from sid2core.metrics.provenance import check_comparable
from sid2core.metrics.quality import Quality
from sid2core.metrics.statistics import FeatureStatistics, Moments, distance
from sid2core.pipeline.artifact import Artifact

SPLITS = ("train", "eval")
_PER_STRATUM = 2
"""Images of a class from which on their scatter within it is known."""
_BLOCK = 4096  # feature vectors summed at once, independent of the chunks they arrived in


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """One feature extractor, and the statistics of its features of the real images.

    Attributes:
        extractor: the network.
        moments: mean and covariance of its features, by split.
        spatial: the same of the features of sFID; empty if the extractor has none.
        train_features: features of some images of the train split, [n, d].
    """

    extractor: FeatureExtractor
    moments: Mapping[str, Moments]
    spatial: Mapping[str, Moments]
    train_features: NDArray[np.float32]

    @property
    def sample_provenance(self) -> dict[str, Any]:
        """The provenance of samples: a model's images have the crop and format of its data."""
        provenance = self.moments["train"].provenance
        of_real = ("split", "data", "real_clips")
        return {name: value for name, value in provenance.items() if name not in of_real}


@dataclass(frozen=True, eq=False)
class Evaluator:
    """All feature extractors with their reference statistics, the data set's own first."""

    references: tuple[ReferenceStatistics, ...]
    primary: ReferenceStatistics
    """The one that the guidance search and the distillation are scored by."""
    captions: CaptionExtractor | None = None
    """The judge of captions, where the data have captions."""

    def __post_init__(self) -> None:
        for reference in self.references:
            expected = reference.extractor.provenance
            for moments in (*reference.moments.values(), *reference.spatial.values()):
                actual = {name: moments.provenance.get(name) for name in expected}
                check_comparable(expected, actual)

    @classmethod
    def load(cls, artifact: Artifact, sharding: NamedSharding | None = None) -> Evaluator:
        """Read the reference artifact.

        Args:
            artifact: the output of the stage ``reference``.
            sharding: how this process's devices share the images of large networks.

        Raises:
            MetricsError: a file cannot be read, or belongs to another extractor.
        """
        extractors, primary = registry.load(artifact, sharding)
        references = {one.name: _statistics(artifact, one) for one in extractors}
        captions = None
        if artifact.metadata.get(CAPTIONS) is not None:
            captions = CaptionExtractor.load(
                lambda file: artifact.path(f"{CAPTIONS}/{file}"), sharding
            )
        return cls(tuple(references.values()), references[primary], captions)

    def features(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The features of all extractors of images [n, h, w, c]: arrays [n, d] by ``name.kind``.

        Raises:
            MetricsError: an extractor does not accept such images.
        """
        found = {
            f"{reference.extractor.name}.{kind}": values
            for reference in self.references
            for kind, values in reference.extractor.features(images).items()
        }
        if self.captions is not None:
            for kind, values in self.captions.features(images).items():
                found[f"{CAPTIONS}.{kind}"] = values
        return found

    @property
    def provenance(self) -> list[Any]:
        """JSON values that change whenever a feature may."""
        found = [one.extractor.provenance for one in self.references]
        return found if self.captions is None else [*found, self.captions.provenance]

    def accumulator(self, asked: Asked | None = None) -> Accumulator:
        """An empty accumulator for images that arrive in chunks.

        Args:
            asked: what all the images were made for, where the data have captions.
        """
        return Accumulator(self, asked)

    def quality(self, images: NDArray[np.uint8], condition: Condition) -> Quality:
        """The quality of images [n, h, w, c] that were sampled for this condition."""
        accumulator = self.accumulator()
        accumulator.add(images, condition)
        return accumulator.quality()


class Accumulator:
    """Collects features of images chunk by chunk; the result is independent of the chunks."""

    def __init__(self, evaluator: Evaluator, asked: Asked | None = None) -> None:
        self._evaluator, self.asked = evaluator, asked
        self._features = dict[str, list[NDArray[np.float32]]]()
        self._moments = dict[str, Moments]()
        self._labels = list[NDArray[np.integer] | None]()
        self._count = 0

    def add(self, images: NDArray[np.uint8], condition: Condition) -> None:
        """Add raw images [n, h, w, c] and the condition that they were sampled for.

        Raises:
            MetricsError: the number of classes is not n, or an extractor does not accept the
                images.
        """
        self.add_features(self._evaluator.features(images), condition)

    def add_features(
        self, features: Mapping[str, NDArray[np.float32]], condition: Condition
    ) -> None:
        """Add images by their features, as :meth:`Evaluator.features` returns them.

        Raises:
            MetricsError: the number of classes is not that of the images.
        """
        count = len(next(iter(features.values())))
        labels = None if condition.label is None else np.asarray(condition.label)
        if labels is not None and labels.shape != (count,):
            msg = f"{count} images came with classes of shape {labels.shape}; expected one each"
            raise MetricsError(msg)
        for name, values in features.items():
            self._features.setdefault(name, []).append(values)
        self._count += count
        self._labels.append(labels)
        self._moments.clear()

    def __len__(self) -> int:
        """The number of images."""
        return self._count

    def features(self, reference: ReferenceStatistics, kind: str) -> NDArray[np.float32]:
        """All features of one kind, [n, d].

        Raises:
            MetricsError: there are no images.
        """
        return self.named(f"{reference.extractor.name}.{kind}")

    def named(self, name: str) -> NDArray[np.float32]:
        """All features of ``<extractor>.<kind>``, [n, d].

        Raises:
            MetricsError: there are no images.
        """
        chunks = self._features.get(name, [])
        if not chunks:
            msg = "a covariance needs 2 feature vectors or more, found 0; add samples"
            raise MetricsError(msg)
        if len(chunks) > 1:
            chunks[:] = [np.concatenate(chunks)]
        return chunks[0]

    def moments(self, reference: ReferenceStatistics, kind: str = POOL) -> Moments:
        """Mean and covariance of all features of one kind, computed once.

        Raises:
            MetricsError: fewer than two images, or features that are not finite.
        """
        name = f"{reference.extractor.name}.{kind}"
        if name not in self._moments:
            provenance = reference.sample_provenance
            if kind == SPATIAL:
                provenance["features"] = SPATIAL
            self._moments[name] = moments(self.features(reference, kind), provenance)
        return self._moments[name]

    def strata(self) -> NDArray[np.integer] | None:
        """The class of each image, if all classes occur equally often, to within one.

        None for images without a class or of too few a class to tell their scatter.
        """
        labels = [one for one in self._labels if one is not None]
        if len(labels) < len(self._labels) or not labels:
            return None
        found = np.concatenate(labels)
        counts = np.unique(found, return_counts=True)[1]
        balanced = counts.max() - counts.min() <= 1
        return found if balanced and counts.min() >= _PER_STRATUM else None

    def agreement(self) -> float | None:
        """The share of images that the data set's own classifier assigns to their class.

        None where images were not sampled for a class, and where the data set's own extractor was
        trained without labels.
        """
        labels = [one for one in self._labels if one is not None]
        own = self._evaluator.references[0].extractor
        if len(labels) < len(self._labels) or LOGITS not in own.widths:
            return None
        logits = self.features(self._evaluator.references[0], LOGITS)
        return float((logits.argmax(axis=-1) == np.concatenate(labels)).mean())

    def quality(self) -> Quality:
        """The distances of the primary extractor, and the agreement.

        Raises:
            MetricsError: fewer than two images.
        """
        reference = self._evaluator.primary
        own = self.moments(reference)
        return Quality(
            len(self),
            distance(own, reference.moments["train"]),
            distance(own, reference.moments["eval"]),
            self.agreement(),
            reference.extractor.distance,
        )


def moments(features: NDArray[np.float32], provenance: Mapping[str, Any]) -> Moments:
    """Mean and covariance of features [n, d], summed in blocks that depend only on n.

    Raises:
        MetricsError: fewer than two vectors, or a value that is not finite.
    """
    statistics = FeatureStatistics.of(features[:_BLOCK])
    for start in range(_BLOCK, len(features), _BLOCK):
        statistics = statistics.merge(FeatureStatistics.of(features[start : start + _BLOCK]))
    return statistics.moments(provenance)


def place(extractor: FeatureExtractor, name: str) -> str:
    """The path of an extractor's file ``name`` in the reference artifact."""
    return f"{extractor.name}/{name}"


def _statistics(artifact: Artifact, extractor: FeatureExtractor) -> ReferenceStatistics:
    def read(suffix: str) -> dict[str, Moments]:
        return {
            split: Moments.load(artifact.path(place(extractor, f"{split}{suffix}.npz")))
            for split in SPLITS
        }

    spatial = read("_spatial") if SPATIAL in extractor.widths else {}
    train_features = np.load(
        artifact.path(place(extractor, "train_features.npy")), allow_pickle=False
    )
    return ReferenceStatistics(extractor, read(""), spatial, train_features)
