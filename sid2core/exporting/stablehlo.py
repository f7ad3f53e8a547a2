"""StableHLO: programs for CPU, CUDA and TPU and for every batch size, which JAX alone loads.

    denoiser.stablehlo  (weights, z [b, …], logsnr [b], condition) → the network's output
    sampler.stablehlo   (weights, keys [b, 2], guidance [], condition) → images in [-1, 1] [b, …]
    weights.npz         the weights by name
    null.npz            the null condition
    draw.py             draws; needs jax, and flatbuffers, with which JAX reads programs

A condition is a dictionary, as :func:`sid2core.exporting.cases.arrays` makes it, and ``keys`` are
the raw data of one threefry key for each image. The weights are arguments: as constants, both
programs would hold them all, and other weights of the network would need new programs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from sid2core.diffusion import samplers
from sid2core.exporting import cases, names, programs
from sid2core.exporting.exported import Exported
from sid2core.exporting.names import Arrays, Shape
from sid2core.inference.denoiser import Denoiser
from sid2core.models.execution import Execution
from sid2core.models.fit import WeightsError
from sid2core.models.network import Parameters
from sid2core.typing import Array, LogSnr, Samples

SUMMARY = "programs of the network and of the whole sampler, which JAX alone loads"
LIBRARY = "jax"
PACKAGES = ("flatbuffers",)
ABSENT = ("flax", "sid2core")
PROGRAM = Path(programs.DRAW)
FREE = False
use = programs.use
DENOISER, SAMPLER, WEIGHTS = "denoiser.stablehlo", "sampler.stablehlo", "weights.npz"
PLATFORMS = ("cpu", "cuda", "tpu")

Traced = Mapping[str, Array]


def write(exported: Exported, folder: Path) -> None:
    """Write the folder."""
    programs.write(exported, folder, "draw_stablehlo.py", [], ["jax", "flatbuffers"])
    weights = {name: np.asarray(one) for name, one in exported.trained.params.items()}
    np.savez(folder / WEIGHTS, **weights)  # type: ignore[arg-type]
    (folder / DENOISER).write_bytes(denoiser(exported).serialize())
    (folder / SAMPLER).write_bytes(sampler(exported).serialize())


def denoiser(exported: Exported) -> export.Exported:
    """The program of the network."""
    network = _portable(exported.trained.denoiser).network

    def output(params: Parameters, z: Samples, logsnr: LogSnr, condition: Traced) -> Samples:
        return network.apply(params, z, logsnr, cases.condition_of(condition))

    shape = network.config.image_shape
    return _program(exported, output, np.zeros((1, *shape), np.float32), np.zeros(1, np.float32))


def sampler(exported: Exported) -> export.Exported:
    """The program that draws, with the export's sampler, steps and interval of guidance."""
    model, method = _portable(exported.trained.denoiser), exported.method
    shape = model.network.config
    null = cases.arrays(shape.condition.null(1))

    def images(params: Parameters, keys: Array, guidance: Array, condition: Traced) -> Samples:
        given = cases.condition_of(condition)

        def positive(z: Samples, logsnr: LogSnr) -> Samples:
            return model(params, z, logsnr, given)

        def negative(z: Samples, logsnr: LogSnr) -> Samples:
            rows = {
                name: jnp.broadcast_to(one, (z.shape[0], *one.shape[1:]))
                for name, one in null.items()
            }
            return model(params, z, logsnr, cases.condition_of(rows))

        return samplers.sample_guided(
            jax.random.wrap_key_data(keys, impl="threefry2x32"),
            positive,
            negative if method.guided else None,
            shape.image_shape,
            plan=method.plan,
            weight=guidance,
            clip_x=method.clip_x,
        )

    return _program(exported, images, np.zeros((1, 2), np.uint32), np.float32(0.0))


def read(folder: Path, shapes: Mapping[str, Shape]) -> Arrays:
    """The weights, as the project names and lays them out."""
    path = folder / WEIGHTS
    try:
        with np.load(path) as file:
            found = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        msg = f"{path} cannot be read ({error}); export the model again"
        raise WeightsError(msg) from None
    wrong = names.difference({name: one.shape for name, one in found.items()}, shapes)
    if wrong:
        raise WeightsError(f"{path} {wrong}: the weights are of another network")
    return found


def _portable(model: Denoiser) -> Denoiser:
    """The same with the attention that every platform has."""
    return replace(model, network=replace(model.network, execution=Execution(attention="xla")))


def _program(exported: Exported, call: Callable[..., Samples], *example: Any) -> export.Exported:
    """``call`` of weights, ``example`` and a condition, for every b, the size of first axes."""
    (batch,) = export.symbolic_shape("b")

    def spec(one: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *one.shape[1:]) if one.shape else (), one.dtype)

    null = cases.arrays(exported.trained.condition.null(1))
    arguments = jax.tree.map(spec, (*example, null))
    program = export.export(jax.jit(call), platforms=PLATFORMS)
    return program(exported.trained.denoiser.network.shapes(), *arguments)
