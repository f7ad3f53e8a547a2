"""Parameters and FLOPs of a network, without allocating a weight.

FLOPs are multiply-adds, as the paper counts them (SiD2 supplement B.3); XLA counts a multiply and
an add as two, so its numbers are halved here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from sid2core.models import cost
from sid2core.models.architecture import UViTConfig
from sid2core.models.execution import Execution
from sid2core.models.network import Network

GIGA = 1e9
_WRITTEN_OUT = Execution(scan_blocks=10**9, attention="xla")
"""Without loops, because XLA counts the body of a loop only once."""


@dataclass(frozen=True)
class Level:
    """One level of the network: its blocks in encoder and decoder, and its projections."""

    level: int
    kind: str
    channels: int
    grid: str
    blocks: int
    parameters: int
    gflops: float


@dataclass(frozen=True)
class Term:
    """A part of XLA's count, in billions of multiply-adds for one example."""

    term: str
    gflops: float


def levels(config: UViTConfig, shapes: Mapping[str, Any]) -> list[Level]:
    """Each level's blocks, parameters and GFLOPs (SiD2 supplement B.3), finest level first.

    The parameters of a level include its blocks, position embeddings, Down and Up. Patches,
    conditioning and the last norm do not belong to a level.
    """
    gflops, last = cost.level_gflops(config), len(config.channels) - 1
    rows = []
    for index, (kind, channels) in enumerate(zip(config.blocks, config.channels, strict=True)):
        parts = ("middle/",) if index == last else tuple(f"{part}/{index}/" for part in _SIDES)
        rows.append(
            Level(
                level=index,
                kind=kind,
                channels=channels,
                grid="x".join(map(str, config.grid(index))),
                blocks=config.depth(index),
                parameters=parameters(
                    {name: one for name, one in shapes.items() if name.startswith(parts)}
                ),
                gflops=gflops[index],
            )
        )
    return rows


_SIDES = ("encoder", "decoder", "down", "up")


def parameters(shapes: Mapping[str, Any]) -> int:
    """The number of parameters."""
    return sum(math.prod(one.shape) for one in shapes.values())


def example(config: UViTConfig, batch: int) -> tuple[Any, ...]:
    """The abstract arguments of a forward pass: z, log-SNR and condition of ``batch`` examples."""
    return (
        jax.ShapeDtypeStruct((batch, *config.image_shape), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.float32),
        jax.eval_shape(lambda: config.condition.null(batch)),
    )


def xla_gflops(config: UViTConfig) -> float:
    """Billions of multiply-adds of one example's forward pass, as XLA counts its compiled program.

    Compiled for this machine's backend, from shapes alone.
    """
    network = Network(config, _WRITTEN_OUT)
    compiled = jax.jit(network.apply).lower(network.shapes(), *example(config, 1)).compile()
    analysis = compiled.cost_analysis()
    assert analysis is not None, "XLA counts the FLOPs of every program on its own backends"
    return float(analysis["flops"]) / 2 / GIGA


def terms(config: UViTConfig, xla: float) -> list[Term]:
    """The parts of XLA's count: the supplement's formulas, and what they omit.

    The last but one is the remainder: norms, activations, softmax, residual sums.
    """
    known = [
        Term("blocks, by supplement B.3", sum(cost.level_gflops(config))),
        Term("zero borders, which B.3 alone counts", -_borders(config)),
        Term("projections between levels", _projections(config)),
        Term("patches in and out", _patches(config)),
        Term("conditioning and modulation", _conditioning(config)),
        *(Term(f"text: {part}", gflops) for part, gflops in cost.text_gflops(config).items()),
    ]
    rest = xla - math.fsum(one.gflops for one in known)
    return [*known, Term("norms, activations and sums", rest), Term("XLA's count", xla)]


def _borders(config: UViTConfig) -> float:
    """Taps of 3-wide windows outside of the image: 2 of 3n along an axis of n positions."""
    total = 0.0
    for index, gflops in enumerate(cost.level_gflops(config)):
        if config.blocks[index] == "res":
            inside = math.prod((3 * size - 2) / (3 * size) for size in config.grid(index))
            total += gflops * (1.0 - inside)
    return total


def _projections(config: UViTConfig) -> float:
    """Down and Up: one 1×1 projection each, at the coarser grid."""
    pairs = zip(config.channels[:-1], config.channels[1:], strict=True)
    return math.fsum(
        2 * fine * coarse * math.prod(config.grid(index + 1)) / GIGA
        for index, (fine, coarse) in enumerate(pairs)
    )


def _patches(config: UViTConfig) -> float:
    """All frames go in, with the mask channel if some are given; the predicted ones come out."""
    frames = config.positions_shape[0] / config.image_shape[0] if config.is_video else 1
    pixels, colours = math.prod(config.image_shape[:-1]), config.image_shape[-1]
    inward = frames * (colours + (config.given_frames > 0))
    return pixels * (inward + colours) * config.channels[0] / GIGA


def _conditioning(config: UViTConfig) -> float:
    films = {"res": 1, "transformer": 2 if config.film == "both" else 1}
    width = math.fsum(
        2 * channels * films[kind] * config.depth(index)
        for index, (channels, kind) in enumerate(zip(config.channels, config.blocks, strict=True))
    )
    return config.emb_channels * (2 * config.emb_channels + width) / GIGA
