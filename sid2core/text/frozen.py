"""A frozen encoder as a compiled function from token ids to vectors in half precision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from sid2core.text.protocol import TextEncoder
from sid2core.typing import Array

_TEXTS = 32
"""Texts at once on the host's behalf, at least."""
HALF = jnp.bfloat16
"""The type of stored vectors, which every encoder's range fits."""


@dataclass(frozen=True, eq=False)
class Embed:
    """The network of a frozen encoder; its weights are read when it is first called.

    Attributes:
        encoder: a frozen one.
        sharding: how devices share a batch; each of them has all weights. None is one device.
    """

    encoder: TextEncoder
    sharding: NamedSharding | None = None

    def __call__(self, ids: Any, mask: Any) -> Array:
        """Vectors [b, n, d] of ids [b, n], zero where the mask is false; on the devices.

        Raises:
            TextError: the weights are missing or were changed.
        """
        call, weights = self._network
        made: Array = call(weights, ids, mask)
        return made

    def host(self, ids: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """The same on the host, some texts at a time, the last padded.

        Raises:
            TextError: as for a call.
        """
        devices = 1 if self.sharding is None else self.sharding.mesh.size
        batch, parts = -(-_TEXTS // devices) * devices, []
        for start in range(0, len(ids), batch):
            here = np.arange(start, start + batch).clip(max=len(ids) - 1)
            given: Any = ids[here], mask[here]
            if self.sharding is not None:
                given = jax.device_put(given, self.sharding)
            parts.append(np.asarray(self(*given)))
        return np.concatenate(parts)[: len(ids)]

    @functools.cached_property
    def _network(self) -> tuple[Callable[..., Array], Any]:
        everywhere = None
        if self.sharding is not None:
            everywhere = NamedSharding(self.sharding.mesh, PartitionSpec())
        graph, weights = nnx.split(self.encoder.network(sharding=everywhere))

        def call(weights: Any, ids: Array, mask: Array) -> Array:
            return nnx.merge(graph, weights)(ids, mask).astype(HALF)

        return jax.jit(call), weights
