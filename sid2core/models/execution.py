"""How a network is computed, as opposed to what: the same numbers up to rounding.

Nothing here changes a weight's name or shape, so weights trained one way run in any other.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from sid2core.errors import Sid2Error
from sid2core.models import cpu_forms, sharding
from sid2core.models.dropout import DropoutKey, fold
from sid2core.typing import Array

_log = logging.getLogger(__name__)
_CUDNN_HEAD_MULTIPLE, _CUDNN_LARGEST_HEAD = 8, 128
_LONG = 16
"""Tokens for each channel of a head from which on attention's matrix is not kept."""


class AttentionError(Sid2Error):
    """The attention that was asked for cannot run here."""


class Remat(StrEnum):
    """What the backward pass computes again instead of keeping it."""

    NONE = "none"
    """Nothing: the fastest, and the most memory."""
    PRODUCTS = "products"
    """What is cheap: norms, modulation, activations, attention. Results of linear layers and
    convolutions are kept."""
    BLOCKS = "blocks"
    """The inside of each block; the blocks' inputs are kept. Costs one more forward pass."""
    OFFLOAD = "offload"
    """The same, but the blocks' inputs wait in the memory of the host."""
    FULL = "full"
    """Whole levels too, then block by block; the levels' inputs are kept. Costs up to two."""


@dataclass(frozen=True)
class Execution:
    """Choices that trade memory, speed and compile time.

    Attributes:
        remat: what the backward pass recomputes.
        scan_blocks: a run of at least so many equal blocks is compiled as one loop: it compiles in
            a fraction of the time, and on CPU runs up to 1.4 times slower than written out.
        attention: ``xla``, ``recomputed``, ``cudnn`` or ``auto``, see
            :func:`attention_implementation`.
    """

    remat: Remat = Remat.NONE
    scan_blocks: int = 16
    attention: Literal["auto", "xla", "recomputed", "cudnn"] = "auto"


DEFAULT = Execution()
"""Nothing recomputed, long runs in loops."""


AttentionKind = Literal["xla", "recomputed", "cudnn"]
Policy = Callable[..., Any]
"""What is kept although it could be computed again, as :func:`jax.checkpoint` takes it."""
INPUT = "input"
"""The name of a block's input in policies."""


@functools.cache
def attention_implementation(
    requested: str, backend: str, dtype: str, head_size: int, tokens: int
) -> AttentionKind:
    """Which attention runs, decided once for each kind of layer and logged.

    - ``xla`` keeps the tokens × tokens matrix of every head for the backward pass.
    - ``recomputed`` is the same, but keeps q, k and v alone.
    - ``cudnn`` never holds that matrix. It needs a GPU, half precision, and heads of a multiple
      of 8 up to 128 channels.

    ``auto`` is cuDNN where it can run; else ``recomputed`` where the matrix would outweigh q, k
    and v five times and more (16 tokens for each channel of a head), and ``xla`` below.

    Raises:
        AttentionError: ``cudnn`` was asked for and cannot run.
    """
    obstacles = {
        f"the backend is {backend}, not gpu": backend != "gpu",
        f"model.compute_dtype is {dtype}, not bfloat16": dtype != "bfloat16",
        f"heads of {head_size} channels are no multiple of 8 up to 128": bool(
            head_size % _CUDNN_HEAD_MULTIPLE or head_size > _CUDNN_LARGEST_HEAD
        ),
    }
    found = [reason for reason, holds in obstacles.items() if holds]
    if requested == "cudnn" and found:
        msg = f"cuDNN's attention cannot run: {'; '.join(found)}; set runtime.attention to auto"
        raise AttentionError(msg)
    without: AttentionKind = "recomputed" if tokens >= _LONG * head_size else "xla"
    choices: dict[str, AttentionKind] = {
        "auto": without if found else "cudnn",
        "xla": "xla",
        "recomputed": "recomputed",
        "cudnn": "cudnn",
    }
    choice = choices[requested]
    reason = f" ({found[0]})" if found and requested == "auto" and backend == "gpu" else ""
    _log.info("attention over %d tokens, heads of %d: %s%s", tokens, head_size, choice, reason)
    return choice


def recomputed(
    module: nnx.Module, *, policy: Policy | None = None, in_loop: bool = False
) -> Callable[..., Any]:
    """The module's call, its inside not kept for the backward pass but computed again.

    Args:
        module: anything that is called with arrays (or None); the first has the name of
            :data:`INPUT` in policies.
        policy: what is kept nevertheless, as :func:`jax.checkpoint` takes it.
        in_loop: whether a scan encloses the call, which already stops XLA from merging the
            recomputation with the original.
    """
    graph, state = nnx.split(module)

    def call(state: nnx.State, h: Array, *arguments: Any) -> Any:
        return nnx.merge(graph, state)(checkpoint_name(h, INPUT), *arguments)

    again = jax.checkpoint(call, prevent_cse=not in_loop, policy=policy)
    return functools.partial(again, state)


def _as_said(block: Any, remat: Remat, *, in_loop: bool) -> Callable[..., Any]:
    """The block's call, recomputed as ``remat`` says; gathered weights are never kept."""
    if remat is Remat.NONE and not sharding.divided():
        return cast("Callable[..., Any]", block)
    policies = jax.checkpoint_policies
    policy: dict[Remat, Policy] = {
        Remat.NONE: sharding.all_but_gathered,
        Remat.PRODUCTS: policies.save_only_these_names(cpu_forms.PRODUCT),
        Remat.OFFLOAD: policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    }
    return recomputed(block, policy=policy.get(remat), in_loop=in_loop)


def run_blocks(
    blocks: Sequence[Any], h: Array, condition: Any, key: DropoutKey | None, execution: Execution
) -> Array:
    """Apply equal blocks in order: ``h = block(h, condition, fold_in(key, index))``.

    Written out or as one loop over their stacked weights, as ``execution`` says; either way block
    i draws its dropout from the key and i alone.
    """
    if len(blocks) < execution.scan_blocks:
        for index, block in enumerate(blocks):
            call = _as_said(block, execution.remat, in_loop=False)
            h = call(h, condition, fold(key, index))
        return h
    split = [nnx.split(block) for block in blocks]
    graph = split[0][0]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state for _, state in split))

    def body(h: Array, of_block: tuple[nnx.State, Array]) -> tuple[Array, None]:
        state, index = of_block
        block = nnx.merge(graph, state)
        call = _as_said(block, execution.remat, in_loop=True)
        return call(h, condition, fold(key, index)), None

    h, _ = jax.lax.scan(body, h, (stacked, jnp.arange(len(blocks))))
    return h
