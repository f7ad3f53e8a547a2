"""This project's side of the benchmarks: training and sampling as the stages run them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from benchmarks.common import Work
from sid2core import config
from sid2core.config import build
from sid2core.data.load.loader import Batch
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import ConstantGuidance, Guidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import step_times
from sid2core.inference.generator import Denoiser, Generator, Method
from sid2core.models.architecture import UViTConfig
from sid2core.models.cpu_forms import convolve
from sid2core.models.network import Network, Parameters
from sid2core.training import log, skip_nonfinite
from sid2core.training.base import base_run, objective_of


def describe() -> dict[str, str]:
    """What the work runs on."""
    device = jax.devices()[0]
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "platform": device.platform}


def peak_memory_mib() -> float:
    """The most memory that was allocated at once so far, in MiB."""
    return log.peak_memory_mib()


def matmul(size: int, dtype: str) -> Work:
    """A product of two square matrices: the machine's ceiling. Float32 sums, whatever the type."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    return lambda: jax.block_until_ready(product(a, a))


def train_step(network: UViTConfig, batch: int, guarded: bool = True) -> Work:
    """A step of :func:`sid2core.training.base.base_run` on one batch of random images."""
    draws = np.random.default_rng(0)
    images = jax.device_put(draws.integers(0, 256, (batch, *network.image_shape), np.uint8))
    condition = jax.device_put(network.condition.asked(batch))
    loader: Any = None  # the one batch is at hand
    with ExitStack() as patched:
        if not guarded:
            for name in ("guarded", "watched"):
                patched.enter_context(mock.patch.object(skip_nonfinite, name, lambda same: same))
        params = config.read()
        objective = objective_of(params.diffusion, Network(network), params.train.condition_dropout)
        run = base_run(objective, params.train, loader, params.seed)
        state = run.init()

    def work() -> None:
        nonlocal state
        state, scalars = run.step(state, Batch(images, condition), 0)
        jax.block_until_ready((state, scalars))

    return work


def sampler(network: UViTConfig, batch: int, steps: int, guided: tuple[int, int]) -> Work:
    """Draw ``batch`` images by DDPM, guided from step ``guided[0]`` to before ``guided[1]``."""
    params = config.read()
    process = build.noise_schedule(params.diffusion.schedule, network.image_shape[-3])
    levels = process.logsnr_exact(step_times(steps))
    first, stop = guided
    guidance: Guidance = NoGuidance()
    if (first, stop) == (0, steps):
        guidance = ConstantGuidance(1.0)
    elif first < stop:
        below, above = (levels[edge - 1 : edge + 1].mean() for edge in guided)
        guidance = IntervalGuidance(1.0, float(below), float(above))
    method = Method(
        Denoiser(Network(network), Prediction.V),
        process,
        build.sampler(params.sampling),
        guidance,
        steps,
        clip_x=StaticClip(),
    )
    expected = steps + stop - first
    assert method.nfe == expected, f"{guidance} costs {method.nfe} evaluations, not {expected}"
    generator = Generator(method, _weights(method.denoiser.network), batch)
    condition = network.condition.asked(batch)
    key = jax.random.key(0)
    return lambda: generator.images(key, np.arange(batch), condition)  # type: ignore[return-value]


def convolution(
    channels: int, spatial: tuple[int, ...], batch: int, steps: int, ours: bool, loop: bool
) -> Work:
    """``steps`` gradient steps of one 3×3 (×3) kernel, each a call or all one ``scan``."""
    x = jax.random.normal(jax.random.key(0), (batch, *spatial, channels))
    window = (3,) * len(spatial)
    kernel = jax.random.normal(jax.random.key(1), (*window, channels, channels))
    kernel /= (3 ** len(spatial) * channels) ** 0.5
    apply: Callable[..., Any] = convolve if ours else jax.lax.conv_general_dilated
    axes = "DHW"[-len(spatial) :]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def loss(kernel: Any) -> Any:
        y = apply(x, kernel, (1,) * len(spatial), "SAME", dimension_numbers=numbers)
        return jnp.mean(jnp.square(y))

    def step(kernel: Any, _: Any = None) -> tuple[Any, None]:
        return kernel - 0.1 * jax.grad(loss)(kernel), None

    if loop:
        run = jax.jit(lambda kernel: jax.lax.scan(step, kernel, length=steps)[0])
        return lambda: jax.block_until_ready(run(kernel))
    one = jax.jit(lambda kernel: step(kernel)[0])

    def work() -> None:
        moved = kernel
        for _ in range(steps):
            moved = one(moved)
        jax.block_until_ready(moved)

    return work


def _weights(network: Network) -> Parameters:
    """Random ones: fresh networks are zero in part."""
    draws = np.random.default_rng(0)
    shapes = sorted(network.shapes().items())
    return {
        name: jnp.asarray(draws.normal(0, 0.03, one.shape), jnp.float32) for name, one in shapes
    }
