"""The Fréchet distance of two sets of images or clips, or of statistics, under its correct name.

FID is the distance of one network: Inception with the weights of 2015, in a stated mode. Any other
distance is named after its extractor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sid2core.config.evaluation import OWN
from sid2core.metrics import image_sets, statistics
from sid2core.metrics.clips import sets as clip_sets
from sid2core.metrics.clips.sets import Clips, Cut
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.image_sets import ImageSet
from sid2core.metrics.networks import dinov2, i3d, i3d_k600, inception, registry
from sid2core.metrics.networks.i3d_k600 import I3DK600
from sid2core.metrics.networks.protocol import POOL, FeatureExtractor
from sid2core.metrics.provenance import check_comparable, unchecked
from sid2core.metrics.statistics import FeatureStatistics, Moments
from sid2core.pipeline import artifact, progress

MODE = "tf1"
"""The mode of published FIDs of ImageNet."""
_CHUNK = 256  # images, or frames of clips, that are in memory at once


@dataclass(frozen=True, eq=False)
class Measurement:
    """How images are measured.

    Attributes:
        extractor: the network.
        provenance: of its features.
        channels: of the images it is applied to.
        cut: which clips it is applied to; None if it is applied to images.
    """

    extractor: FeatureExtractor
    provenance: Mapping[str, Any]
    channels: int = 3
    cut: Cut | None = None

    def opened(self, path: str) -> ImageSet:
        """The images or clips at ``path``.

        Raises:
            Sid2Error: the path holds no such set, or the extractor does not accept them.
        """
        if self.cut is None:
            return image_sets.opened(path, self.channels)
        found = clip_sets.opened(path, self.cut)
        self.extractor.check(found.shape)
        return found

    def moments(self, images: ImageSet) -> Moments:
        """Mean and covariance of the features of all images, computed in chunks.

        Raises:
            Sid2Error: an image cannot be read or measured, or there are fewer than two.
        """
        sums = FeatureStatistics.of(np.empty((0, self.extractor.widths[POOL])))
        size = _CHUNK if self.cut is None else max(1, _CHUNK // images.shape[0])
        with progress.bar(len(images), "fd", "image") as bar:
            for chunk in images.chunks(size):
                sums = sums.merge(FeatureStatistics.of(self.extractor.features(chunk)[POOL]))
                bar.update(len(chunk))
        return sums.moments(self.provenance_of(images))

    def provenance_of(self, images: ImageSet) -> dict[str, Any]:
        """The provenance of the moments of a set, known before any pixel is read."""
        of_clips = images.provenance if isinstance(images, Clips) else {}
        return {**self.provenance, **image_sets.provenance(images), **of_clips}


@dataclass(frozen=True)
class Choice:
    """The extractor that a user chooses.

    Attributes:
        name: a key of :data:`EXTRACTORS`; None takes it from the statistics files, and for images
            from the reference artifact.
        weights: the network's weight file, if it has one.
        mode: how images are resized for Inception; None for :data:`MODE`.
        verify: whether the weights must be the published ones.
        frames: how many first frames of a clip I3D measures; None for all.
        size: of the shorter side, to which frames in image files are resized; None for their own.
    """

    name: str | None = None
    weights: Path | None = None
    mode: str | None = None
    verify: bool = True
    frames: int | None = None
    size: int | None = None

    def measurement(self) -> Measurement:
        """Load the network.

        Raises:
            Sid2Error: its weights are missing, or the choice contradicts itself.
        """
        return self._kind.load(self)

    @property
    def features(self) -> int | None:
        """The number of its features, if the name determines it."""
        return self._kind.features if self.name and self.verify else None

    @property
    def declaration(self) -> dict[str, Any]:
        """The provenance of statistics files that have none."""
        if self.name is None:
            return {}
        declaration = {"extractor": self.stored_name}
        if self.name == "inception":
            declaration["mode"] = self.mode or MODE
        return declaration

    @property
    def stored_name(self) -> str:
        """Its name in provenance; with other weights it is another network."""
        return self._kind.name if self.verify else f"{self._kind.name}, other weights"

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in EXTRACTORS:
            msg = f"no extractor {self.name!r}; there are {', '.join(EXTRACTORS)}"
            raise MetricsError(msg)
        if self.mode is not None and self.name != "inception":
            msg = f"mode {self.mode} belongs to inception: choose that extractor, or no mode"
            raise MetricsError(msg)
        for key, value in (("frames", self.frames), ("size", self.size)):
            if value is not None and value < 1:
                msg = f"{key} is {value}; expected 1 or more"
                raise MetricsError(msg)
        if self.frames is not None and self.name != i3d.NAME:
            msg = f"frames {self.frames}: only i3d measures any number; leave frames out"
            raise MetricsError(msg)

    @property
    def _kind(self) -> _Kind:
        return EXTRACTORS[self.name or "reference"]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two sets that are compared."""

    path: str
    moments: Moments
    images: ImageSet | None
    """None if the statistics came from a file."""


@dataclass(frozen=True)
class Comparison:
    """A distance with its bias."""

    title: str
    distance: float
    bias_constant: float
    """C of the second: the distance of N images of the first is about C / N too large."""
    unchecked: tuple[str, ...]
    """Entries of provenance that only one of the two has, because the other came from outside."""


def sides(
    paths: tuple[str, str], choice: Choice, despite: Collection[str] = ()
) -> tuple[Side, Side]:
    """Read the statistics at each path, or measure the images there.

    Raises:
        Sid2Error: a path holds neither, or the chosen extractor does not accept the images; or the
            two cannot be compared, which is checked before any image is measured.
    """
    moments, images = dict[str, Moments](), dict[str, ImageSet]()
    provenance = dict[str, Any]()
    files = {path for path in paths if statistics.is_statistics(Path(path))}
    measurement = choice.measurement() if files != set(paths) else None
    for path in paths:
        if measurement is None or path in files:
            moments[path] = Moments.published(Path(path), choice.declaration, size=choice.features)
            provenance[path] = moments[path].provenance
        else:
            images[path] = measurement.opened(path)
            provenance[path] = measurement.provenance_of(images[path])
    first, second = paths
    check_comparable(provenance[first], provenance[second], despite)
    if measurement is not None:
        moments |= {path: measurement.moments(one) for path, one in images.items()}
    return (
        Side(first, moments[first], images.get(first)),
        Side(second, moments[second], images.get(second)),
    )


def compare(first: Moments, second: Moments, despite: Collection[str] = ()) -> Comparison:
    """The distance of the first from the second, which is the reference.

    Raises:
        MetricsError: their provenance differs in entries that ``despite`` does not name.
    """
    return Comparison(
        title(first.provenance),
        statistics.distance(first, second, despite),
        second.bias_constant,
        tuple(unchecked(first.provenance, second.provenance)),
    )


def title(provenance: Mapping[str, Any]) -> str:
    """The name of a distance of such features."""
    name, mode = provenance["extractor"], provenance.get("mode")
    if name == inception.NAME and mode in inception.MODES:
        return f"FID ({mode})"
    if name == dinov2.NAME:
        return "FD-DINOv2"
    if name in (i3d.NAME, i3d_k600.NAME):
        return "FVD" if name == i3d.NAME else "FVD as of Kinetics-600"
    return f"Fréchet distance ({name}{f', {mode}' if mode else ''})"


def _reference(choice: Choice) -> Measurement:
    if choice.weights is not None or not choice.verify:
        msg = "the reference stage's extractor has its own weights; choose another, or give none"
        raise MetricsError(msg)
    own = registry.own(artifact.load("reference"))
    *frames, _, _, channels = own.architecture.shape
    cut = Cut(frames[0], size=choice.size, channels=channels) if frames else None
    return Measurement(own, own.provenance, channels, cut)


def _inception(choice: Choice) -> Measurement:
    path, mode = _weights(choice), choice.mode or MODE
    extractor = inception.load(path, choice.verify, mode=mode)
    return Measurement(extractor, {**extractor.provenance, "extractor": choice.stored_name})


def _dinov2(choice: Choice) -> Measurement:
    extractor = dinov2.load(_weights(choice), choice.verify)
    return Measurement(extractor, {**extractor.provenance, "extractor": choice.stored_name})


def _i3d(choice: Choice) -> Measurement:
    protocol = choice.name == i3d_k600.NAME
    extractor = i3d.load(_weights(choice), choice.verify)
    if protocol:
        extractor = I3DK600.of(extractor)
    provenance = {**extractor.provenance, "extractor": choice.stored_name}
    cut = Cut(choice.frames, protocol, choice.size)
    return Measurement(extractor, provenance, cut=cut)


def _weights(choice: Choice) -> Path:
    """The weight file; its reader reports one that does not exist."""
    if choice.weights is not None:
        return choice.weights
    msg = (
        f"to measure images, {choice.name} needs its weight file, which you supply: give "
        "--weights FILE; if FILE does not exist, the error says where it is published"
    )
    raise MetricsError(msg)


@dataclass(frozen=True)
class _Kind:
    name: str
    """In provenance."""
    features: int | None
    load: Callable[[Choice], Measurement]


EXTRACTORS: Mapping[str, _Kind] = {
    "reference": _Kind(OWN, None, _reference),
    "inception": _Kind(inception.NAME, inception.FEATURES, _inception),
    "dinov2": _Kind(dinov2.NAME, 1024, _dinov2),
    "i3d": _Kind(i3d.NAME, i3d.CLASSES, _i3d),
    "i3d_k600": _Kind(i3d_k600.NAME, i3d.CLASSES, _i3d),
}
"""By the name that a user chooses."""
