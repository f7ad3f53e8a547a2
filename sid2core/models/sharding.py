"""Where a weight lies on a mesh of devices: one rule for weights, averages and moments.

Within a step (:func:`on_mesh`) a layer gathers its own weights where it uses them, in the type that
it computes in. So a device holds few whole weights at once, and bfloat16 halves the traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import jax
from flax import nnx
from flax.nnx.nn import dtypes
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sid2core.typing import Array

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


def on_mesh(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``step``, traced so that :func:`gathered` gathers over ``mesh``."""

    @wraps(step)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(*arguments)

    return traced


def gathered(weight: Array) -> Array:
    """A divided weight, whole on every device; its gradient is summed and divided again.

    Outside of :func:`on_mesh`, and where nothing is divided, it is the weight as it is.
    """
    place = partition(weight.shape, _parts())
    if place == PartitionSpec():
        return weight
    # Both places are stated, so that a cast before stays divided, and the gradient is divided after
    # its sum: to divide its summands would move activations between devices.
    divided = jax.lax.with_sharding_constraint(weight, place)
    return jax.lax.with_sharding_constraint(divided, PartitionSpec())


def all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    """A policy for :func:`jax.checkpoint`: everything is kept but gathered weights."""
    return bool(primitive.name != "sharding_constraint")


def divided() -> bool:
    """Whether a step is traced whose weights are divided over devices."""
    return _parts() > 1


def _parts() -> int:
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape["fsdp"]


def promoted(arrays: Any, /, *, dtype: Any = None, inexact: bool = True) -> Any:
    """``promote_dtype`` of flax's layers: (input, *weights) in ``dtype``, and weights gathered."""
    x, *weights = dtypes.promote_dtype(arrays, dtype=dtype, inexact=inexact)
    return (x, *(one if one is None else gathered(one) for one in weights))


def with_gathered(module: nnx.Module) -> Any:
    """A module whose layers are not this package's, with all weights gathered."""
    graph, state = nnx.split(module)
    return nnx.merge(graph, jax.tree.map(gathered, state))
