"""All that generated images are measured by and against, as the reference stage left it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import ArrayLike, NDArray

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import registry
from sid2core.metrics.networks.registry import LOGITS, POOL, SPATIAL, Gauge
from sid2core.metrics.provenance import check_comparable
from sid2core.metrics.quality import Quality
from sid2core.metrics.statistics import FeatureStatistics, Moments, distance
from sid2core.pipeline.artifact import Artifact

SPLITS = ("train", "eval")
_BLOCK = 4096  # feature vectors summed at once, however they came


@dataclass(frozen=True, eq=False)
class Panel:
    """A gauge, and what it says of the real images.

    Attributes:
        gauge: the network.
        moments: of its features, by split.
        spatial: of sFID's features, by split; empty where the gauge has none.
        real: features of some images of the train split, [n, d].
    """

    gauge: Gauge
    moments: Mapping[str, Moments]
    spatial: Mapping[str, Moments]
    real: NDArray[np.float32]

    @property
    def of_samples(self) -> dict[str, Any]:
        """The provenance of samples: what a model makes is cut and kept as what it learned from."""
        told = self.moments["train"].provenance
        return {name: value for name, value in told.items() if name not in ("split", "data")}


@dataclass(frozen=True, eq=False)
class Judge:
    """What generated images are judged by; the first panel is the data set's own classifier's."""

    panels: tuple[Panel, ...]

    def __post_init__(self) -> None:
        for panel in self.panels:
            for moments in (*panel.moments.values(), *panel.spatial.values()):
                told = {name: moments.provenance.get(name) for name in panel.gauge.provenance}
                check_comparable(panel.gauge.provenance, told)

    @classmethod
    def load(cls, reference: Artifact, sharding: NamedSharding | None = None) -> Judge:
        """Read everything from the artifact.

        Args:
            reference: what the stage of that name wrote.
            sharding: how this process's devices share the images of large networks.

        Raises:
            MetricsError: a file cannot be read, or is of another extractor.
        """
        return cls(tuple(_panel(reference, one) for one in registry.kept(reference, sharding)))

    @property
    def leading(self) -> Panel:
        """The one that searches go by."""
        return self.panels[-1]

    def features(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """What every gauge extracts of images [n, h, w, c]: arrays [n, …] by ``gauge.kind``.

        Raises:
            MetricsError: other images than the gauges take.
        """
        return {
            f"{panel.gauge.name}.{kind}": values
            for panel in self.panels
            for kind, values in panel.gauge.features(images).items()
        }

    def meter(self) -> Meter:
        """A fresh meter, for images that come in chunks."""
        return Meter(self)

    def quality(self, images: NDArray[np.uint8], labels: ArrayLike) -> Quality:
        """The quality of images [n, h, w, c] that were asked to be of classes [n]."""
        meter = self.meter()
        meter.add(images, labels)
        return meter.quality()


class Meter:
    """Gathers images' features; how the images are cut into chunks does not matter."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self._chunks = judge, list[Mapping[str, NDArray[np.float32]]]()
        self._labels = list[NDArray[np.integer]]()

    def add(self, images: NDArray[np.uint8], labels: ArrayLike) -> None:
        """Take in raw images [n, h, w, c] and the classes that were asked for [n].

        Raises:
            MetricsError: as many labels as images are needed, of the gauges' shape.
        """
        wanted = np.asarray(labels)
        if wanted.shape != images.shape[:1]:
            msg = (
                f"{len(images)} images came with labels of shape {wanted.shape}; expected one each"
            )
            raise MetricsError(msg)
        self.add_features(self._judge.features(images), wanted)

    def add_features(
        self, features: Mapping[str, NDArray[np.float32]], labels: NDArray[np.integer]
    ) -> None:
        """The same for images whose features (:meth:`Judge.features`) are at hand."""
        self._chunks.append(features)
        self._labels.append(labels)

    def __len__(self) -> int:
        """How many images so far."""
        return sum(map(len, self._labels))

    def features(self, panel: Panel, kind: str) -> NDArray[np.float32]:
        """All features of a kind so far, [n, d].

        Raises:
            MetricsError: there are no images yet.
        """
        name = f"{panel.gauge.name}.{kind}"
        if not self._chunks:
            msg = "a covariance needs 2 feature vectors or more, found 0; add samples"
            raise MetricsError(msg)
        return np.concatenate([chunk[name] for chunk in self._chunks])

    def moments(self, panel: Panel, kind: str = POOL) -> Moments:
        """Mean and covariance of all features of a kind so far.

        Raises:
            MetricsError: fewer than two images, or features that are not finite.
        """
        told = panel.of_samples | ({"features": SPATIAL} if kind == SPATIAL else {})
        return moments(self.features(panel, kind), told)

    def agreement(self) -> float:
        """The share of images in which the data set's classifier sees what was asked for."""
        logits = self.features(self._judge.panels[0], LOGITS)
        return float((logits.argmax(axis=-1) == np.concatenate(self._labels)).mean())

    def quality(self) -> Quality:
        """The distances of the leading gauge, and the agreement.

        Raises:
            MetricsError: fewer than two images.
        """
        panel = self._judge.leading
        found = self.moments(panel)
        return Quality(
            len(self),
            distance(found, panel.moments["train"]),
            distance(found, panel.moments["eval"]),
            self.agreement(),
            panel.gauge.distance,
        )


def moments(features: NDArray[np.float32], provenance: Mapping[str, Any]) -> Moments:
    """Mean and covariance of features [n, d], summed in blocks that hang on n alone.

    Raises:
        MetricsError: fewer than two, or a value that is not finite.
    """
    found = FeatureStatistics.of(features[:_BLOCK])
    for start in range(_BLOCK, len(features), _BLOCK):
        found = found.merge(FeatureStatistics.of(features[start : start + _BLOCK]))
    return found.moments(provenance)


def place(gauge: Gauge, name: str) -> str:
    """Where the reference artifact keeps a gauge's file ``name``."""
    return f"{gauge.name}/{name}"


def _panel(reference: Artifact, gauge: Gauge) -> Panel:
    def read(suffix: str) -> dict[str, Moments]:
        return {
            split: Moments.load(reference.path(place(gauge, f"{split}{suffix}.npz")))
            for split in SPLITS
        }

    spatial = gauge.name in reference.facts["spatial"]
    real = np.load(reference.path(place(gauge, "train_features.npy")), allow_pickle=False)
    return Panel(gauge, read(""), read("_spatial") if spatial else {}, real)
