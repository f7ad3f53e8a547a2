"""How fast this machine trains and draws: measured on a small network, or from a data sheet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from sid2core.conditioning import ConditionSpec
from sid2core.models import cost
from sid2core.models.architecture import UViTConfig
from sid2core.models.network import Network
from sid2core.plan import hardware

UTILISATION = 0.3
"""Share of the peak rate that is assumed for a device that was not measured."""
_BATCH = 16
_SECONDS = 2.0
"""How long each of the two programs is run."""


@dataclass(frozen=True)
class Machine:
    """What computes.

    Attributes:
        name: its name.
        rate: multiply-adds a second while it trains or draws.
        memory: bytes.
        compute_dtype: what the network computes in.
        cores: that decode pictures.
        source: where the rate comes from.
    """

    name: str
    rate: float
    memory: int
    compute_dtype: str
    cores: int
    source: str


def device(name: str) -> Machine:
    """A device by its data sheet, at 30 % of its peak rate."""
    one = hardware.hardware(name)
    source = f"{UTILISATION:.0%} of the peak rate: {one.source}"
    return Machine(name, UTILISATION * one.flops, one.memory, "bfloat16", _cores(), source)


def here(network: UViTConfig) -> Machine:
    """This machine, measured for a few seconds after compilation.

    The rate is the slower of that of a training step (three forward passes) and of a forward pass.

    Args:
        network: a network like the one that will be trained.
    """
    model = Network(network)
    params = model.init(jax.random.key(0))
    images = jnp.zeros((_BATCH, *network.image_shape), jnp.float32)
    logsnr = jnp.zeros(_BATCH, jnp.float32)
    condition = network.condition.null(_BATCH)

    def loss(params: Any) -> jax.Array:
        return jnp.mean(model.apply(params, images, logsnr, condition) ** 2)

    forward = _BATCH * cost.forward_gflops(network) * 1e9
    training = cost.FORWARDS_PER_TRAINING_STEP * forward / _time(jax.jit(jax.grad(loss)), params)
    drawing = forward / _time(jax.jit(loss), params)
    rate = min(training, drawing)
    memory = psutil.virtual_memory().available
    platform = jax.devices()[0].platform
    dtype = "float32" if platform == "cpu" else "bfloat16"
    return Machine(platform, rate, memory, dtype, _cores(), "measured here just now")


def proxy(condition: ConditionSpec, channels: int) -> UViTConfig:
    """The smallest network that is recommended, which stands for the others' speed."""
    return UViTConfig(
        image_shape=(32, 32, channels),
        condition=condition,
        patch_size=2,
        channels=(48, 96, 192),
        blocks=("res", "res", "transformer"),
        encoder_depth=(1, 2),
        decoder_depth=(1, 2),
        mid_depth=4,
        dropout=(0.0, 0.0, 0.0),
        temporal_strides=(1, 1),
        emb_channels=128,
        head_size=32,
        heads=None,
        position="learned",
        film="both",
        order="attention_first",
        text_channels=None,
        compute_dtype="float32",
    )


def _time(program: Callable[[Any], Any], params: Any) -> float:
    """Seconds a call, the mean over about two seconds."""
    jax.block_until_ready(program(params))
    since, calls = time.perf_counter(), 0
    while time.perf_counter() - since < _SECONDS:
        jax.block_until_ready(program(params))
        calls += 1
    return (time.perf_counter() - since) / calls


def _cores() -> int:
    return psutil.cpu_count(logical=False) or 1
