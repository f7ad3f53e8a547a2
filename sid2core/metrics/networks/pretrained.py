"""What the extractors with published weights share: their files, their shapes, their batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from numpy.typing import NDArray

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import weights
from sid2core.metrics.networks.torchfile import Tensors
from sid2core.metrics.networks.weights import Published

_NAMED = 3  # tensors named in a message, at most


def obtain(path: Path, choice: Sequence[Published], verify: bool) -> tuple[Tensors, str]:
    """The float32 tensors of one of several published files, and that file's SHA-256.

    Args:
        path: one of the published files, or a safetensors that was made from one.
        choice: the published files; the first is named when ``path`` is none of them.
        verify: as in :func:`weights.obtain`.

    Raises:
        MetricsError: as :func:`weights.obtain`.
    """
    meant = _meant(path, choice)
    tensors = weights.obtain(path, meant, verify=verify)
    origin = meant.sha256 if verify else weights.origin(path)
    return {name: one.astype(np.float32) for name, one in tensors.items()}, origin


def _meant(path: Path, choice: Sequence[Published]) -> Published:
    """The one that ``path`` is, or is damaged from, or was made from."""
    if not path.is_file():
        return choice[0]
    by_size = {one.size: one for one in choice}
    by_origin = {one.sha256: one for one in choice}
    found = by_size.get(path.stat().st_size) or by_origin.get(weights.origin(path))
    return found or choice[0]


def fitted(
    tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], what: str
) -> Tensors:
    """The tensors that a network of these shapes has; others, such as further heads, are left out.

    Args:
        tensors: by name.
        shapes: of all tensors that are needed.
        what: the file and the network that is expected in it, for the message.

    Raises:
        MetricsError: names the tensors that are missing, have another shape, or hold what is not
            finite; or variances below zero.
    """
    wrong = [
        f"{name} is {tensors[name].shape if name in tensors else 'missing'}, expected {shape}"
        for name, shape in shapes.items()
        if name not in tensors or tensors[name].shape != shape
    ]
    if wrong:
        more = f", and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        msg = f"{what}: {'; '.join(wrong[:_NAMED])}{more}. It has {_some(tensors)}"
        raise MetricsError(msg)
    found = {name: tensors[name] for name in shapes}
    unsound = [
        name
        for name, one in found.items()
        if not np.isfinite(one).all() or (name.endswith("running_var") and one.min() < 0)
    ]
    if unsound:
        msg = (
            f"{what}: values are not finite, or variances below zero, in "
            f"{', '.join(unsound[:_NAMED])}; take the published file"
        )
        raise MetricsError(msg)
    return found


def _some(tensors: Mapping[str, Any]) -> str:
    names = sorted(tensors)
    return f"{len(names)} tensors: {', '.join(names[:_NAMED])}{', …' * (len(names) > _NAMED)}"


def in_batches(
    apply: Callable[[NDArray[Any]], jax.Array], rows: NDArray[Any], size: int, width: int
) -> NDArray[np.float32]:
    """``apply`` [size, …] → [size, width] over all rows [n, …], the last batch padded with zeros.

    One size of batch: one compilation, and features that depend on their own row alone.
    """
    found = np.empty((len(rows), width), np.float32)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        batch = np.pad(part, [(0, size - len(part)), *[(0, 0)] * (rows.ndim - 1)])
        found[start : start + size] = np.asarray(apply(batch))[: len(part)]
    return found


def whole(tree: Any, sharding: NamedSharding | None) -> Any:
    """Weights on every device that shares a batch by ``sharding``; without it, on one."""
    return jax.device_put(tree, sharding and NamedSharding(sharding.mesh, PartitionSpec()))


def shared(batch: NDArray[Any], sharding: NamedSharding | None) -> jax.Array:
    """A batch on the devices.

    Raises:
        MetricsError: it cannot be divided among them.
    """
    try:
        return jax.device_put(batch, sharding)
    except ValueError as error:
        msg = (
            f"a batch of {len(batch)} cannot be shared by the devices ({error}): "
            "make batch_size a multiple of their number"
        )
        raise MetricsError(msg) from None
