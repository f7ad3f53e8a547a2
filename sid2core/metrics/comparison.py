"""The Fréchet distance of two sets of images, or of statistics of such, under its right name.

FID is the name of one network's distance: Inception's, with the weights of 2015, in a stated mode.
Everything else is a Fréchet distance of the extractor that is named beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core.metrics import image_sets, statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.image_sets import ImageSet
from sid2core.metrics.networks import dinov2, inception, own
from sid2core.metrics.networks.own import Extractor
from sid2core.metrics.provenance import check_comparable, unchecked
from sid2core.metrics.statistics import FeatureStatistics, Moments
from sid2core.pipeline import artifact, progress

MODE = "tf1"
"""In which published FIDs of ImageNet are."""
_CHUNK = 256  # images described at once: bounds memory


@dataclass(frozen=True, eq=False)
class Network:
    """What makes features [n, size] of raw images [n, h, w, c]."""

    size: int
    channels: int
    provenance: Mapping[str, Any]
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]

    def describe(self, images: ImageSet) -> Moments:
        """The statistics of all images of a set; memory holds a chunk of them.

        Raises:
            Sid2Error: an image cannot be read or described, or there are fewer than two.
        """
        found = FeatureStatistics.of(np.empty((0, self.size)))
        with progress.bar(len(images), "fd", "image") as bar:
            for chunk in images.chunks(_CHUNK):
                found = found.merge(FeatureStatistics.of(self.features(chunk)))
                bar.update(len(chunk))
        return found.moments(self.provenance_of(images))

    def provenance_of(self, images: ImageSet) -> dict[str, Any]:
        """What the statistics of a set will tell, known before a pixel is read."""
        return {**self.provenance, **image_sets.provenance(images)}


@dataclass(frozen=True)
class Choice:
    """What a user chooses to measure by.

    Attributes:
        name: a key of :data:`EXTRACTORS`; None for what statistics files say, and for images
            the extractor of the reference stage.
        weights: the network's weight file, where it has one.
        mode: how images are brought to Inception's size; None for :data:`MODE`.
        verify: whether the weights must be the published ones.
    """

    name: str | None = None
    weights: Path | None = None
    mode: str | None = None
    verify: bool = True

    def network(self) -> Network:
        """The network itself.

        Raises:
            Sid2Error: its weights cannot be had, or the choice makes no sense.
        """
        return self._kind.load(self)

    @property
    def size(self) -> int | None:
        """How many features statistics of it have, as far as the name tells."""
        return self._kind.size if self.name and self.verify else None

    @property
    def declaration(self) -> dict[str, Any]:
        """What the choice says of statistics that do not say it themselves."""
        if self.name is None:
            return {}
        told = {"extractor": self.stored_name}
        return told | {"mode": self.mode or MODE} if self.name == "inception" else told

    @property
    def stored_name(self) -> str:
        """What provenance calls it; of other weights a network is another one."""
        return self._kind.name if self.verify else f"{self._kind.name}, other weights"

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in EXTRACTORS:
            msg = f"no extractor {self.name!r}; there are {', '.join(EXTRACTORS)}"
            raise MetricsError(msg)
        if self.mode is not None and self.name != "inception":
            msg = f"mode {self.mode} is one of inception's: choose that extractor, or no mode"
            raise MetricsError(msg)

    @property
    def _kind(self) -> _Kind:
        return EXTRACTORS[self.name or "reference"]


@dataclass(frozen=True, eq=False)
class Side:
    """One of two that are compared."""

    path: str
    moments: Moments
    images: ImageSet | None
    """None where statistics came from a file."""


@dataclass(frozen=True)
class Comparison:
    """A distance, and what it is worth."""

    title: str
    distance: float
    bias_constant: float
    """C of the second: N images of the first lie C / N above infinitely many, about."""
    unchecked: tuple[str, ...]
    """What of the statistics could not be compared, since one from outside does not tell."""


def sides(
    paths: tuple[str, str], choice: Choice, despite: Collection[str] = ()
) -> tuple[Side, Side]:
    """What lies at each path: statistics as they are read, or images as they are described.

    Raises:
        Sid2Error: it is neither, or cannot be measured by the chosen extractor; or the two cannot
            be compared, which is told before any image is described.
    """
    read, images, told = dict[str, Moments](), dict[str, ImageSet](), dict[str, Any]()
    files = {path for path in paths if statistics.is_statistics(Path(path))}
    network = choice.network() if files != set(paths) else None
    for path in paths:
        if network is None or path in files:
            read[path] = Moments.published(Path(path), choice.declaration, size=choice.size)
            told[path] = read[path].provenance
        else:
            images[path] = image_sets.opened(path, network.channels)
            told[path] = network.provenance_of(images[path])
    first, second = paths
    check_comparable(told[first], told[second], despite)
    if network is not None:
        read |= {path: network.describe(found) for path, found in images.items()}
    return (
        Side(first, read[first], images.get(first)),
        Side(second, read[second], images.get(second)),
    )


def compare(first: Moments, second: Moments, despite: Collection[str] = ()) -> Comparison:
    """The distance of the first to the second, which is the reference.

    Raises:
        MetricsError: they cannot be compared, unless ``despite`` names what they differ in.
    """
    return Comparison(
        title(first.provenance),
        statistics.distance(first, second, despite),
        second.bias_constant,
        tuple(unchecked(first.provenance, second.provenance)),
    )


def title(provenance: Mapping[str, Any]) -> str:
    """What a distance of such features is called."""
    name, mode = provenance["extractor"], provenance.get("mode")
    if name == inception.NAME and mode in inception.MODES:
        return f"FID ({mode})"
    if name == dinov2.NAME:
        return "FD-DINOv2"
    return f"Fréchet distance ({name}{f', {mode}' if mode else ''})"


def _reference(choice: Choice) -> Network:
    if choice.weights is not None or not choice.verify:
        msg = "the reference stage's extractor has its own weights; choose another, or give none"
        raise MetricsError(msg)
    found = Extractor.load(artifact.load("reference"))
    built = found.architecture
    return Network(
        built.feature_size, built.shape[-1], found.provenance, lambda x: found.features(x)[0]
    )


def _inception(choice: Choice) -> Network:
    found, mode = inception.load(_given(choice), choice.verify), choice.mode or MODE
    provenance = {**found.provenance(mode), "extractor": choice.stored_name}
    size = inception.WIDTHS["pool3"]
    return Network(size, 3, provenance, lambda images: found(images, mode)["pool3"])


def _dinov2(choice: Choice) -> Network:
    found = dinov2.load(_given(choice), choice.verify)
    provenance = {**found.provenance, "extractor": choice.stored_name}
    size = found.tensors["norm.weight"].size
    return Network(size, 3, provenance, lambda images: found(images)["cls"])


def _given(choice: Choice) -> Path:
    """The weight file; one that is not there is told of by who reads it."""
    if choice.weights is not None:
        return choice.weights
    msg = (
        f"to measure images, {choice.name} needs its weights, which are yours to bring: give "
        "--weights FILE; with a FILE that is not there yet you are told where it is published"
    )
    raise MetricsError(msg)


@dataclass(frozen=True)
class _Kind:
    name: str
    """As provenance has it."""
    size: int | None
    load: Callable[[Choice], Network]


EXTRACTORS: Mapping[str, _Kind] = {
    "reference": _Kind(own.NAME, None, _reference),
    "inception": _Kind(inception.NAME, inception.WIDTHS["pool3"], _inception),
    "dinov2": _Kind(dinov2.NAME, 1024, _dinov2),
}
"""By the name that a user chooses."""
