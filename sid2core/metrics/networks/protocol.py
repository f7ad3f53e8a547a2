"""The protocol of feature extractors: networks that turn images or clips into feature vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray
from typing_extensions import Protocol, runtime_checkable

POOL, LOGITS, SPATIAL = "pool", "logits", "spatial"
"""Kinds of features: those of distances, class scores, and those of sFID."""

Features = dict[str, NDArray[np.float32]]
"""Arrays [n, d] by kind."""
Files = Callable[[str], Path]
"""Maps the name of a file to its path in the extractor's folder of an artifact."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """A network with its preprocessing.

    Implementations that run on devices share :class:`sid2core.metrics.networks.batching.Batching`.
    """

    @property
    def name(self) -> str:
        """Its name in artifacts and tables."""
        ...

    @property
    def distance(self) -> str:
        """The name of its Fréchet distance in reports, such as ``fid``."""
        ...

    @property
    def kernel(self) -> str:
        """The name of its kernel distance in reports, such as ``kid``."""
        ...

    @property
    def widths(self) -> Mapping[str, int]:
        """The number of features of each kind; :data:`POOL` is always one of them."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """JSON values that must agree before statistics of its features are compared."""
        ...

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that it accepts images [h, w, c] or clips [f, h, w, c] of this shape.

        Raises:
            MetricsError: it does not; the message says which shapes it accepts.
        """
        ...

    def features(self, images: NDArray[np.uint8]) -> Features:
        """The features of raw images [n, h, w, c] or clips [n, f, h, w, c]; n may be 0.

        Raises:
            MetricsError: other than uint8, or of a shape that :meth:`check` refuses.
        """
        ...

    def save(self, file: Files) -> None:
        """Write all that :meth:`ExtractorKind.load` needs."""
        ...


@runtime_checkable
class ExtractorKind(Protocol):
    """The class of a feature extractor, as registered in :mod:`sid2core.config.evaluation`."""

    def from_settings(
        self, settings: Any, sharding: NamedSharding | None = None
    ) -> FeatureExtractor:
        """The extractor that ``eval.extractors.<name>`` describes, its weights verified.

        Args:
            settings: that sub-section, of the registered schema.
            sharding: how this process's devices share a batch; None for one device.

        Raises:
            MetricsError: weights are missing or not the expected ones.
        """
        ...

    def load(self, file: Files, sharding: NamedSharding | None = None) -> FeatureExtractor:
        """The extractor that :meth:`FeatureExtractor.save` wrote.

        Raises:
            MetricsError: the files are damaged.
        """
        ...
