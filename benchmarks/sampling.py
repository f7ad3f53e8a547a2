"""Our sampler against PyTorch's of the same network: 64 steps of DDPM, guided and not.

    python -m benchmarks.sampling [--rounds 7] [--threads 2] [--only NAME]

Guidance over an interval that covers 40 % of the steps costs 40 % more evaluations, constant
guidance twice as many. PyTorch runs the network as often as the unguided sampler does.
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
from sid2core.diffusion import samplers, schedule
from sid2core.diffusion.guidance import ConstantGuidance, Guidance, IntervalGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.models import cost
from sid2core.models.architecture import UViTConfig
from sid2core.models.network import Network
from sid2core.sampling import Denoiser, Generator, Method
from tests.models.torch_twin import ResidualUViT

STEPS, COVERED = 64, 0.4
BATCHES = {"digits": 50, "64x64": 2}
NOISE = schedule.Cosine()


def guidances() -> dict[str, Guidance]:
    """None, an interval over 40 % of the steps in the middle of the grid, and constant."""
    logsnr = NOISE.logsnr_exact(schedule.step_times(STEPS)[:-1])
    first = round(STEPS * (1 - COVERED) / 2)
    last = first + round(STEPS * COVERED)
    low, high = logsnr[first] - 1e-6, logsnr[last - 1] + 1e-6
    return {
        "unguided": NoGuidance(),
        "interval": IntervalGuidance(1.0, float(low), float(high)),
        "constant": ConstantGuidance(1.0),
    }


def ours(network: Network, batch: int, guidance: Guidance) -> tuple[Method, common.Timed]:
    """The generator that evaluation uses."""
    denoiser = Denoiser(network, Prediction.V)
    method = Method(denoiser, NOISE, samplers.DDPM(), guidance, STEPS, clip=True)
    generator = Generator(method, common.weights(network), batch)
    indices, labels = np.arange(batch), np.zeros(batch, np.int32)
    stream = jax.random.key(0)

    def call() -> None:
        generator.images(stream, indices, labels)

    return method, call


def theirs(network: Network, batch: int) -> common.Timed:
    """The network's evaluations alone, and an update of z as cheap as can be."""
    twin = ResidualUViT(network.config).eval()
    twin.load_flat({name: np.asarray(one) for name, one in common.weights(network).items()})
    levels = np.asarray(NOISE.logsnr(jnp.asarray(schedule.step_times(STEPS)[:-1])))
    labels = torch.zeros(batch, dtype=torch.long)

    @torch.inference_mode()
    def call() -> None:
        z = torch.randn(batch, *network.config.image_shape)
        for level in levels:
            v = twin(z, torch.full((batch,), float(level)), labels)
            z = 0.9 * z - 0.1 * v.clamp(-1, 1) + 0.1 * torch.randn_like(z)

    return call


def measure(shape: UViTConfig, batch: int, rounds: int) -> dict[str, Any]:
    """One model: medians, evaluations, and ratios."""
    network = Network(shape)
    methods = {name: ours(network, batch, one) for name, one in guidances().items()}
    calls = {name: call for name, (_, call) in methods.items()} | {"torch": theirs(network, batch)}
    seconds = common.interleaved(calls, rounds)
    rows: dict[str, Any] = {name: common.summary(one) for name, one in seconds.items()}
    for name, (method, _) in methods.items():
        pairs = zip(seconds[name], seconds["unguided"], strict=True)
        rows[name] |= {
            "nfe": method.nfe,
            "over_unguided": round(statistics.median(a / b for a, b in pairs), 3),
        }
    pairs = zip(seconds["torch"], seconds["unguided"], strict=True)
    rows["torch_over_ours"] = round(statistics.median(a / b for a, b in pairs), 3)
    return {"gflops_forward": round(cost.forward_gflops(shape), 4), "batch": batch, **rows}


def main() -> None:
    """Measure every model and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=tuple(common.models()))
    common.bare(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = {name: one for name, one in common.models().items() if options.only in (None, name)}
    rows = {
        name: measure(shape, BATCHES[name], options.rounds) for name, (shape, _) in chosen.items()
    }
    common.report("sampling", options.threads, rows)


if __name__ == "__main__":
    main()
