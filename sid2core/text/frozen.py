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
_NARROWEST = 8
"""Tokens to which the shortest texts are padded."""
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
        """The same on the host, [b, n, d].

        Raises:
            TextError: as for a call.
        """
        out = np.zeros((*ids.shape, self.encoder.channels), HALF)
        for row, vectors in enumerate(self.rows(ids, mask)):
            out[row, : len(vectors)] = vectors
        return out

    def rows(self, ids: NDArray[np.int32], mask: NDArray[np.bool_]) -> list[NDArray[Any]]:
        """The vectors of the tokens of each text, [length, d], on the host.

        Texts are encoded some at a time, padded to the next power of two of their own length: so
        short ones cost little, and the result does not depend on the other texts.

        Raises:
            TextError: as for a call.
        """
        devices = 1 if self.sharding is None else self.sharding.mesh.size
        batch, found = -(-_TEXTS // devices) * devices, dict[int, NDArray[Any]]()
        lengths = mask.sum(1)
        widths = 2 ** np.ceil(np.log2(np.maximum(lengths, _NARROWEST))).astype(int)
        for width in np.unique(widths).tolist():
            some = np.flatnonzero(widths == width)
            for start in range(0, len(some), batch):
                here = some[np.arange(start, start + batch).clip(max=len(some) - 1)]
                given: Any = ids[here, :width], mask[here, :width]
                if self.sharding is not None:
                    given = jax.device_put(given, self.sharding)
                vectors = np.asarray(self(*given))
                found |= {row: vectors[i, : lengths[row]] for i, row in enumerate(here.tolist())}
        return [found[row] for row in range(len(ids))]

    @functools.cached_property
    def _network(self) -> tuple[Callable[..., Array], Any]:
        everywhere = None
        if self.sharding is not None:
            everywhere = NamedSharding(self.sharding.mesh, PartitionSpec())
        graph, weights = nnx.split(self.encoder.network(sharding=everywhere))

        def call(weights: Any, ids: Array, mask: Array) -> Array:
            return nnx.merge(graph, weights)(ids, mask).astype(HALF)

        return jax.jit(call), weights
