"""Where the state of training and its batches lie: on one device, or on a mesh of many.

The mesh has two axes (``runtime.mesh``). The batch is divided over both. Weights, averages and
moments are whole along ``data`` and divided along ``fsdp``, by the one rule of
:mod:`sid2core.models.sharding`: within a step each layer gathers its weights where it uses them,
and gradients are divided again. On one device nothing of this is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from sid2core import config
from sid2core.models import sharding


@dataclass(frozen=True)
class Layout:
    """The devices of a run; without a mesh it is JAX's own first device."""

    mesh: Mesh | None = None

    @property
    def batch(self) -> NamedSharding | None:
        """How a batch is divided, as :class:`sid2core.data.load.loader.Loader` takes it."""
        return None if self.mesh is None else sharding.of_batch(self.mesh)

    @property
    def devices(self) -> int:
        """How many devices share a batch."""
        return 1 if self.mesh is None else self.mesh.size

    def shardings(self, tree: Any) -> Any:
        """Where each array of a state (or its shape) lies."""
        mesh = self.mesh
        if mesh is None:
            return jax.tree.map(lambda _: SingleDeviceSharding(jax.local_devices()[0]), tree)
        return jax.tree.map(
            lambda one: NamedSharding(mesh, sharding.partition(one.shape, mesh.shape["fsdp"])), tree
        )

    def abstract(self, init: Callable[[], Any]) -> Any:
        """Shapes, types and places of what ``init`` makes, which is not made."""
        shapes = jax.eval_shape(init)
        return jax.tree.map(
            lambda one, place: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=place),
            shapes,
            self.shardings(shapes),
        )

    def init_sharded(self, init: Callable[..., Any], *arguments: Any) -> Any:
        """``init(*arguments)``, each array made in its place: it is never whole on a device."""
        if self.mesh is None:
            return init(*arguments)
        places = self.shardings(jax.eval_shape(init, *arguments))
        return jax.jit(init, out_shardings=places)(*arguments)

    def shard(self, tree: Any) -> Any:
        """Arrays of the host (the same in every process) in their places."""
        return tree if self.mesh is None else jax.device_put(tree, self.shardings(tree))

    def compiled(self, update: Callable[..., Any], init: Callable[[], Any]) -> Callable[..., Any]:
        """(state, …) → (state, scalars), compiled; the state's buffers are given to the next.

        Args:
            update: one step.
            init: makes the first state; only its shapes are asked for.
        """
        if self.mesh is None:
            return jax.jit(update, donate_argnums=0)
        places = (self.shardings(jax.eval_shape(init)), self._whole)
        step = sharding.on_mesh(update, self.mesh)
        return jax.jit(step, donate_argnums=0, out_shardings=places)

    def check_parts(self, section: str, batch_size: int, accumulation: int) -> None:
        """Refuse a batch that devices can share, in parts that they cannot.

        Raises:
            ParamsError: names ``accumulation`` of ``section``.
        """
        part = batch_size // accumulation
        if part % self.devices and batch_size % self.devices == 0:
            msg = (
                f"{section}.accumulation: {accumulation} parts of {part} images cannot be divided "
                f"over {self.devices} devices; lower it, or raise {section}.batch_size"
            )
            raise config.ParamsError(msg)

    def reshard(self, gradient: Any) -> Any:
        """Within a step: a gradient divided as the weights are, to update them with."""
        if self.mesh is None:
            return gradient
        return jax.lax.with_sharding_constraint(gradient, self.shardings(gradient))

    def host(self, tree: Any) -> Any:
        """Arrays whole in the memory of every process."""
        if self.mesh is None:
            return jax.device_get(tree)
        return jax.device_get(jax.jit(lambda arrays: arrays, out_shardings=self._whole)(tree))

    @property
    def _whole(self) -> NamedSharding:
        assert self.mesh is not None, "asked for on a mesh alone"
        return NamedSharding(self.mesh, PartitionSpec())


ONE_DEVICE = Layout()


def layout(settings: config.Mesh, devices: Sequence[jax.Device] | None = None) -> Layout:
    """The layout of ``runtime.mesh`` on the devices of all processes.

    One process may leave devices unused; several must use them all, or some would have no part.

    Raises:
        ParamsError: there are not so many devices, or they cannot be divided so.
    """
    # A process's devices side by side, so that it needs one run of each batch's rows.
    found = sorted(devices or jax.devices(), key=lambda one: (one.process_index, one.id))
    data, fsdp = _filled(settings, len(found))
    used = found[: data * fsdp]
    if len(used) < len(found) and len({one.process_index for one in found}) > 1:
        msg = f"uses {len(used)} of {len(found)} devices of several processes; use them all"
        raise config.ParamsError(_problem(settings, msg))
    if len(used) == 1:
        return ONE_DEVICE
    return Layout(Mesh(np.array(used).reshape(data, fsdp), sharding.BATCH_AXES))


def local(settings: config.Mesh) -> Layout:
    """The layout of one process's own devices, for work that processes divide among themselves.

    One process alone has that of :func:`layout`.

    Raises:
        ParamsError: as there.
    """
    if jax.process_count() == 1:
        return layout(settings)
    return layout(settings.model_copy(update={"data": -1, "fsdp": 1}), jax.local_devices())


def _filled(settings: config.Mesh, count: int) -> tuple[int, int]:
    """The sizes of both axes, -1 filled in."""
    data, fsdp = settings.data, settings.fsdp
    given = max(data, 1) * max(fsdp, 1)
    if given > count:
        msg = f"needs {given} devices and there are {count}; lower it, or put -1 for what there is"
        raise config.ParamsError(_problem(settings, msg))
    if -1 in (data, fsdp) and count % given:
        msg = f"{given} does not divide the {count} devices that there are"
        raise config.ParamsError(_problem(settings, msg))
    return tuple(count // given if size == -1 else size for size in (data, fsdp))  # type: ignore[return-value]


def _problem(settings: config.Mesh, words: str) -> str:
    return f"runtime.mesh: data {settings.data} and fsdp {settings.fsdp}: {words}"
