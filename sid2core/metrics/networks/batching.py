"""Runs a network over many images in batches of one size, on one device or shared by several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from sid2core.metrics.networks.protocol import Features

Apply = Callable[[jax.Array], Mapping[str, jax.Array]]
"""A batch on the devices → features [b, d] by kind."""


@dataclass(frozen=True)
class Batching:
    """The size and the placement of batches.

    All batches have one size, so a network is compiled once, and the features of an image are
    independent of the images around it.

    Attributes:
        size: images that one device takes at once; bounds memory.
        sharding: how devices share a batch; None for one device.
    """

    size: int
    sharding: NamedSharding | None = None

    @property
    def total(self) -> int:
        """Images in a batch of all devices."""
        return self.size * (1 if self.sharding is None else self.sharding.mesh.size)

    def replicated(self, weights: Any) -> Any:
        """A tree of arrays, copied to every device that shares a batch."""
        sharding = self.sharding and NamedSharding(self.sharding.mesh, PartitionSpec())
        return jax.device_put(weights, sharding)

    def run(
        self,
        apply: Apply,
        images: NDArray[Any],
        widths: Mapping[str, int],
        prepare: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> Features:
        """``apply`` on all images [n, …]; the last batch is padded with zeros.

        Args:
            apply: the network.
            images: what it is applied to; n may be 0.
            widths: the number of features of each kind.
            prepare: preprocessing on the host, of the images of one batch before padding.
        """
        features = {kind: np.empty((len(images), d), np.float32) for kind, d in widths.items()}

        def batches() -> Iterator[tuple[slice, Mapping[str, jax.Array]]]:
            for start in range(0, len(images), self.total):
                part = images[start : start + self.total]
                batch = self._padded(part if prepare is None else prepare(part))
                yield (
                    slice(start, start + len(part)),
                    apply(jax.device_put(batch, self.sharding)),
                )

        # In pairs: the devices have the next batch before the features of this one are fetched.
        for (rows, found), _ in pairwise(chain(batches(), [(slice(0), {})])):
            for kind in widths:
                features[kind][rows] = np.asarray(found[kind])[: rows.stop - rows.start]
        return features

    def _padded(self, batch: NDArray[Any]) -> NDArray[Any]:
        return np.pad(batch, [(0, self.total - len(batch)), *[(0, 0)] * (batch.ndim - 1)])
