"""The networks that images are measured by, asked in one way.

An extractor is a network, and how images are brought to it. There is always the data set's own
classifier; Inception and DINOv2 join it where the user has their weights (``eval`` names the
files), and go with the reference artifact from then on. The last one leads: it is what the guidance
search and the distillation go by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core import config
from sid2core.metrics.networks import dinov2, inception, own
from sid2core.metrics.networks.own import Extractor
from sid2core.pipeline.artifact import Artifact

WEIGHTS = "weights.safetensors"
POOL, LOGITS, SPATIAL = "pool", "logits", "spatial"
"""What is extracted: the features of distances; class scores; sFID's features."""
_INCEPTIONS = {"pool3": POOL, "logits_unbiased": LOGITS, "sfid": SPATIAL}

Features = dict[str, NDArray[np.float32]]
"""Arrays [n, d] by one of the names above."""


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A network to measure by.

    Attributes:
        name: as artifacts and tables have it.
        distance: what its Fréchet distance is called.
        kernel: what its kernel distance is called.
        provenance: what statistics of its features must agree in.
        features: those of raw images [n, h, w, c].
        save: writes its weights.
    """

    name: str
    distance: str
    kernel: str
    provenance: Mapping[str, Any]
    features: Callable[[NDArray[np.uint8]], Features]
    save: Callable[[Path], None] | None = None


def of_data(extractor: Extractor) -> FeatureExtractor:
    """The data set's own classifier. Its distances are called by no published metric's name."""

    def features(images: NDArray[np.uint8]) -> Features:
        pool, logits = extractor.features(images)
        return {POOL: pool, LOGITS: logits}

    return FeatureExtractor(own.NAME, "fd", "kd", extractor.provenance, features)


def brought(settings: config.Eval, sharding: NamedSharding | None = None) -> list[FeatureExtractor]:
    """Those whose weight files the user names, checked, in the order of their lead.

    Raises:
        MetricsError: a file is missing, or another one; the message says which one is meant.
    """
    found = []
    if settings.dinov2_weights is not None:
        found.append(_dinov2(Path(settings.dinov2_weights), True, sharding))
    if settings.inception_weights is not None:
        place = Path(settings.inception_weights)
        found.append(_inception(place, True, settings.inception_mode, sharding))
    return found


def kept(reference: Artifact, sharding: NamedSharding | None = None) -> list[FeatureExtractor]:
    """All those of the reference artifact; the weights in it are the user's, checked before."""
    found = [of_data(Extractor.load(reference))]
    for name in reference.facts["gauges"][1:]:
        place = reference.path(f"{name}/{WEIGHTS}")
        if name == inception.NAME:
            mode = reference.facts["inception_mode"]
            found.append(_inception(place, False, mode, sharding))
        else:
            found.append(_dinov2(place, False, sharding))
    return found


def _inception(
    place: Path, verify: bool, mode: str, sharding: NamedSharding | None
) -> FeatureExtractor:
    devices = 1 if sharding is None else sharding.mesh.size
    network = inception.load(place, verify, batch_size=_BATCH * devices, sharding=sharding)

    def features(images: NDArray[np.uint8]) -> Features:
        found = network(images, mode)
        return {ours: found[theirs] for theirs, ours in _INCEPTIONS.items()}

    return FeatureExtractor(
        inception.NAME, "fid", "kid", network.provenance(mode), features, network.save
    )


def _dinov2(place: Path, verify: bool, sharding: NamedSharding | None) -> FeatureExtractor:
    network = replace(dinov2.load(place, verify), sharding=sharding)

    def features(images: NDArray[np.uint8]) -> Features:
        return {POOL: network(images)["cls"]}

    distance, kernel = "fd_dinov2", "kd_dinov2"
    return FeatureExtractor(
        dinov2.NAME, distance, kernel, network.provenance, features, network.save
    )


_BATCH = 32
"""Images that a device takes at once: bounds memory."""
