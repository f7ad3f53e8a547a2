"""Where a weight lies on a mesh of devices: one rule for weights, averages and moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH_AXES = ("data", "fsdp")
"""The batch is divided over all devices."""


def partition(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """The largest axis that ``devices`` divides is divided, the last one of equals; else none.

    Applied to every weight, its average and its moments it leaves each device 1 / ``devices`` of
    the state but for what is too small or too odd to divide.
    """
    fitting = [axis for axis, size in enumerate(shape) if size >= devices and size % devices == 0]
    if devices == 1 or not fitting:
        return PartitionSpec()
    chosen = max(fitting, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*("fsdp" if axis == chosen else None for axis in range(chosen + 1)))


def of_parameters(shapes: Mapping[str, Any], mesh: Mesh) -> dict[str, NamedSharding]:
    """The sharding of every weight over the ``fsdp`` axis of ``mesh``, by name."""
    devices = mesh.shape["fsdp"]
    return {
        name: NamedSharding(mesh, partition(tuple(one.shape), devices))
        for name, one in shapes.items()
    }


def of_batch(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))
