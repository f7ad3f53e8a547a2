"""Memory that training needs, computed from shapes alone.

Activations are what JAX keeps between the forward and the backward pass, taken from the abstract
program. No weight is allocated and nothing is compiled, so the numbers do not depend on the machine
that computes them. XLA may keep slightly less, by fusing, or more, by copying.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sid2core.conditioning import Text
from sid2core.models import cost
from sid2core.models.architecture import UViTConfig
from sid2core.models.blocks import Embedded
from sid2core.models.execution import DEFAULT, Execution, Remat
from sid2core.models.network import Network
from sid2core.models.uvit import BLOCKS
from sid2core.plan.counting import example, parameters

FLOAT32 = 4
STATE_COPIES = 4
"""Parameters, their average, and Adam's two moments."""


@dataclass(frozen=True)
class Activations:
    """Memory for one example's backward pass, for one choice of recomputation.

    Attributes:
        remat: what is recomputed.
        kept: bytes kept from the forward pass on the device.
        working: additional bytes while one block (or level) is recomputed.
        forwards: forward passes per training step, by their FLOPs, without its backward pass.
        host: bytes kept from the forward pass in the memory of the host.
    """

    remat: Remat
    kept: int
    working: int
    forwards: float
    host: int = 0

    @property
    def total(self) -> int:
        """Peak number of bytes."""
        return self.kept + self.working


def state_bytes(shapes: Mapping[str, Any], emas: int = 0) -> int:
    """Parameters, EMA, ``emas`` more and both of Adam's moments, in float32.

    Muon has one moment per matrix and needs less.
    """
    return (STATE_COPIES + emas) * gradient_bytes(shapes)


def gradient_bytes(shapes: Mapping[str, Any]) -> int:
    """One gradient of every parameter, in float32."""
    return FLOAT32 * parameters(shapes)


def activations(network: Network, choices: Iterable[Remat] = Remat) -> list[Activations]:
    """Memory for one example's backward pass for some choices of ``runtime.remat``."""
    return [_activations(network, remat) for remat in choices]


def sampling_bytes(network: Network) -> int:
    """Bytes for one example of a forward pass that keeps nothing for a backward pass.

    The skips of all levels, and what the largest block keeps, which is at least what it needs at
    once.
    """
    config = network.config
    inputs = [
        jnp.dtype(config.compute_dtype).itemsize * width * _positions(config, level)
        for level, width in enumerate(config.channels)
    ]
    blocks = [
        _of_block(config, level, network.execution)
        for level in range(len(inputs))
        if config.depth(level)
    ]
    return sum(inputs[:-1]) + sum(inputs[1:]) + max(blocks)


def _activations(network: Network, remat: Remat) -> Activations:
    """The difference of batches of two and one: the fixed part (weights, their casts) cancels."""
    way = replace(network, execution=replace(network.execution, remat=remat))
    one, two = (_kept(way, batch) for batch in (1, 2))
    device, host = (more - less for less, more in zip(one, two, strict=True))
    working, forwards = _working(network, remat), _forwards(network.config, remat)
    return Activations(remat, device, working, forwards, host)


def _forwards(config: UViTConfig, remat: Remat) -> float:
    """Forward passes of a training step; with the products kept, only attention is repeated."""
    if remat is Remat.PRODUCTS:
        return 1 + cost.attention_gflops(config) / cost.forward_gflops(config)
    return {Remat.NONE: 1, Remat.BLOCKS: 2, Remat.OFFLOAD: 2, Remat.FULL: 3}[remat]


def _kept(network: Network, batch: int) -> tuple[int, int]:
    """Bytes that the forward pass keeps, weights included: on the device, and on the host."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def residuals(weights: Any, key: Any, *inputs: Any) -> Any:
        return jax.vjp(
            lambda weights: network.apply(weights, inputs[0], inputs[1], inputs[2], key), weights
        )[1]

    shapes = replace(network, execution=DEFAULT).shapes()  # the same for each way, and cached
    arguments = shapes, key, *example(network.config, batch)
    kept = jax.make_jaxpr(residuals)(*arguments).out_avals
    host = [one for one in kept if one.memory_space == jax.memory.Space.Host]
    return _bytes(kept) - _bytes(host), _bytes(host)


def _working(network: Network, remat: Remat) -> int:
    """Bytes for one example that are recomputed at once: those of a block, or of a level."""
    if remat is Remat.NONE:
        return 0
    config, most = network.config, 0
    for level in range(len(config.channels)):
        if config.depth(level) == 0:
            continue
        block = _of_block(config, level, network.execution)
        width = jnp.dtype(config.compute_dtype).itemsize * config.channels[level]
        inputs = width * _positions(config, level)
        runs = _runs(config, level) if remat is Remat.FULL else 0
        most = max(most, block + runs * inputs)
    return most


def _runs(config: UViTConfig, level: int) -> int:
    """Blocks in the longest run of a level; their inputs are kept while it is recomputed."""
    if level == len(config.channels) - 1:
        return config.mid_depth
    return max(config.encoder_depth[level], config.decoder_depth[level])


def _positions(config: UViTConfig, level: int) -> int:
    total = 1
    for size in config.grid(level):
        total *= size
    return total


@functools.lru_cache(maxsize=16)  # each choice of recomputation has the same blocks
def _of_block(config: UViTConfig, level: int, execution: Execution) -> int:
    """Bytes that one block keeps for one example."""
    kind = BLOCKS[config.blocks[level]]
    abstract = nnx.eval_shape(lambda: kind(config, level, execution, nnx.Rngs(0)))
    graph, state = nnx.split(abstract)

    def residuals(batch: int) -> int:
        h = jax.ShapeDtypeStruct(
            (batch, *config.grid(level), config.channels[level]), jnp.dtype(config.compute_dtype)
        )
        emb = jax.ShapeDtypeStruct((batch, config.emb_channels), jnp.float32)
        tokens, mask = _text(config, batch)

        def backward(state: Any, h: Any, emb: Any, tokens: Any, mask: Any) -> Any:
            def call(state: Any, h: Any, emb: Any, tokens: Any) -> Any:
                text = None if tokens is None else Text(tokens, mask)
                return nnx.merge(graph, state)(h, Embedded(emb, text), None)

            return jax.vjp(call, state, h, emb, tokens)[1]

        return _bytes(jax.eval_shape(backward, state, h, emb, tokens, mask))

    return residuals(2) - residuals(1)


def _text(config: UViTConfig, batch: int) -> tuple[Any, Any]:
    """The shapes of the text that blocks look at, and of its mask; None twice without text."""
    kind, width = config.condition.text, config.text_width
    if kind is None or width is None:
        return None, None
    shape = (batch, kind.tokens, width)
    dtype = jnp.dtype(config.compute_dtype)
    return jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(shape[:2], jnp.bool_)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
