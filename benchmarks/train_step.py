"""Our train step against PyTorch's of the same network, and against the matrix-product ceiling.

    python -m benchmarks.train_step [--rounds 15] [--threads 2] [--compile] [--only NAME]

Both draw nothing: times, noise and images are given. Both compute the weighted v-loss, its
gradient, a clip by global norm, Adam and an EMA; dropout is on. Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import common
from sid2core import config, presets, recipe
from sid2core.diffusion.parametrisation import Prediction
from sid2core.models import cost
from sid2core.models.architecture import UViTConfig
from sid2core.models.network import Network
from sid2core.training import base, optimiser
from tests.models.torch_twin import ResidualUViT


def ours(network: Network, batch: int, params: config.Params) -> common.Timed:
    """The trainer's own update, with its own draws of times, noise and dropout."""
    config_ = network.config
    adam = optimiser.build(params.train.optimiser, params.train.steps)
    objective = base.Objective(
        network,
        recipe.noise_schedule(params.diffusion.schedule, config_.image_shape[0]),
        recipe.training_loss(params.diffusion.loss, config_.image_shape),
        Prediction.V,
        params.train.label_dropout,
    )

    def update(state: Any, images: Any, labels: Any, key: Any) -> Any:
        return base.update(
            state,
            images,
            labels,
            key,
            objective=objective,
            optimiser=adam,
            ema_decay=params.train.ema_decay,
        )

    step = jax.jit(update, donate_argnums=0)
    images = jnp.zeros((batch, *config_.image_shape), jnp.uint8)
    labels, key = jnp.zeros((batch,), jnp.int32), jax.random.key(0)
    state = base.initial_state(common.weights(network), adam)

    def call() -> None:
        nonlocal state
        state, scalars = step(state, images, labels, key)
        scalars["loss"].block_until_ready()

    return call


def theirs(network: Network, batch: int, params: config.Params, compiled: bool) -> common.Timed:
    """The same update in PyTorch, with fused or foreach operations wherever there are any."""
    twin = ResidualUViT(network.config)
    twin.load_flat({name: np.asarray(one) for name, one in common.weights(network).items()})
    twin.train()
    forward = torch.compile(twin) if compiled else twin
    weights = list(twin.parameters())
    average = [one.detach().clone() for one in weights]
    settings = params.train.optimiser
    betas = (settings.adam_b1, settings.adam_b2)
    adam = torch.optim.Adam(
        weights, settings.learning_rate, betas, eps=settings.adam_eps, fused=True
    )
    images = torch.zeros(batch, *network.config.image_shape)
    labels = torch.zeros(batch, dtype=torch.long)

    def call() -> None:
        t = torch.rand(batch)
        logsnr = -2.0 * torch.log(torch.tan(1.55 * t + 0.007))
        noise = torch.randn_like(images)
        shape = (batch,) + (1,) * (images.ndim - 1)
        alpha = torch.sigmoid(logsnr).sqrt().reshape(shape)
        sigma = torch.sigmoid(-logsnr).sqrt().reshape(shape)
        z = alpha * images + sigma * noise
        error = forward(z, logsnr, labels) - (alpha * noise - sigma * images)
        weight = torch.sigmoid(4.0 - logsnr).reshape(shape)
        loss = (weight * error.square()).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm, foreach=True)
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1.0 - params.train.ema_decay)
        loss.item()

    return call


def measure(
    shape: UViTConfig, batch: int, params: config.Params, options: argparse.Namespace
) -> dict[str, Any]:
    """One model: medians, ratios, utilisation."""
    network = Network(shape)
    calls = {
        "ceiling": common.ceiling(),
        "ours": ours(network, batch, params),
        "torch": theirs(network, batch, params, compiled=False),
    }
    if options.compile:
        calls["torch_compiled"] = theirs(network, batch, params, compiled=True)
    seconds = common.interleaved(calls, options.rounds)
    products = 3 * cost.forward_gflops(shape) * 1e9 * batch
    fastest = common.CEILING**3 / statistics.median(seconds["ceiling"])
    rows: dict[str, Any] = {name: common.summary(one) for name, one in seconds.items()}
    for name, one in seconds.items():
        if name != "ceiling":
            rows[name]["utilisation"] = round(products / statistics.median(one) / fastest, 4)
    for name in set(seconds) - {"ceiling", "ours"}:
        pairs = zip(seconds[name], seconds["ours"], strict=True)
        rows[f"{name}_over_ours"] = round(statistics.median(a / b for a, b in pairs), 3)
    return {"gflops_forward": round(cost.forward_gflops(shape), 4), "batch": batch, **rows}


def main() -> None:
    """Measure every model and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile too; slow to start")
    parser.add_argument("--only", choices=tuple(common.models()))
    common.bare(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    params = presets.change(presets.read("digits")).params
    chosen = {name: one for name, one in common.models().items() if options.only in (None, name)}
    rows = {name: measure(*one, params, options) for name, one in chosen.items()}
    common.report("train_step", options.threads, rows)


if __name__ == "__main__":
    main()
