"""PyTorch's side of the benchmarks: the same training and sampling, around the exported module."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common import Work
from sid2core import config
from sid2core.exporting.files.model import ResidualUViT
from sid2core.models.architecture import UViTConfig

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.backends.cudnn.benchmark = True  # the fastest convolution of each shape
if hasattr(os, "sched_getaffinity"):
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def describe() -> dict[str, str]:
    """What the work runs on, in JAX's words."""
    return {"torch": torch.__version__, "platform": "gpu" if DEVICE.type == "cuda" else "cpu"}


def peak_memory_mib() -> float:
    """The most memory that was allocated at once so far, in MiB; on a CPU that of the process."""
    if DEVICE.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


class Schedule:
    """The interpolated cosine schedule of ``params.yaml``."""

    def __init__(self, image_size: int):
        settings = config.read().diffusion.schedule.settings
        self._b = math.atan(math.exp(-0.5 * settings.logsnr_max))
        self._a = math.atan(math.exp(-0.5 * settings.logsnr_min)) - self._b
        ends = (settings.noise_res_high or image_size, settings.noise_res_low)
        self._data, self._noise = (2.0 * math.log(one / image_size) for one in ends)

    def logsnr(self, t: Tensor) -> Tensor:
        """``-2 log tan(a t + b) + (1 - t) shift(data) + t shift(noise)``."""
        tilt = self._data + t * (self._noise - self._data)
        return -2.0 * torch.log(torch.tan(self._a * t + self._b)) + tilt

    def slope(self, t: Tensor) -> Tensor:
        """Its derivative."""
        u = self._a * t + self._b
        return -2.0 * self._a / (torch.sin(u) * torch.cos(u)) + (self._noise - self._data)


def loss(
    model: Callable[..., Tensor],
    schedule: Schedule,
    x: Tensor,
    labels: Tensor,
    t: Tensor,
    eps: Tensor,
    bias: float,
) -> Tensor:
    """The mean of ``½ (−λ') sigmoid(b − λ) mean((eps − eps_hat)²)``, from the error in v."""
    logsnr = schedule.logsnr(t)
    alpha, sigma = (torch.sigmoid(one).sqrt()[:, None, None, None] for one in (logsnr, -logsnr))
    error = model(alpha * x + sigma * eps, logsnr, labels) - (alpha * eps - sigma * x)
    weight = -0.5 * schedule.slope(t) * torch.sigmoid(bias - logsnr) * torch.sigmoid(logsnr)
    return torch.mean(weight * error.square().flatten(1).mean(1))


def train_step(network: UViTConfig, batch: int, compiled: bool) -> Work:
    """Draw times, noise and dropped labels; forward, backward, clip, Adam, EMA."""
    settings = config.read()
    adam, bias = settings.train.optimiser, settings.diffusion.loss.settings.bias
    torch.manual_seed(0)
    model = ResidualUViT(network).to(DEVICE).train()
    parameters = list(model.parameters())
    average = [one.detach().clone() for one in parameters]
    optimiser = torch.optim.Adam(
        parameters, adam.learning_rate, (adam.adam_b1, adam.adam_b2), adam.adam_eps, fused=True
    )
    images = torch.randint(0, 256, (batch, *network.image_shape), dtype=torch.uint8)
    labels = torch.randint(0, network.condition.label.classes, (batch,))
    images, labels = images.to(DEVICE), labels.to(DEVICE)
    schedule, offsets = (
        Schedule(network.image_shape[-3]),
        torch.arange(batch, device=DEVICE) / batch,
    )
    objective = torch.compile(loss) if compiled else loss

    def work() -> None:
        x = images.float() / 127.5 - 1.0
        t = (torch.rand((), device=DEVICE) + offsets) % 1.0
        dropped = torch.rand(batch, device=DEVICE) < settings.train.condition_dropout
        given = torch.where(dropped, network.condition.label.classes, labels)
        value = objective(model, schedule, x, given, t, torch.randn_like(x), bias)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, adam.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1.0 - settings.train.ema_decay)
        _wait()

    return work


def sampler(
    network: UViTConfig, batch: int, steps: int, guided: tuple[int, int], compiled: bool
) -> Work:
    """Draw ``batch`` images by DDPM, guided from step ``guided[0]`` to before ``guided[1]``."""
    fraction = config.read().sampling.sampler.settings.logvar_fraction
    torch.manual_seed(0)
    model = ResidualUViT(network).to(DEVICE).eval()
    predict = torch.compile(model) if compiled else model
    levels = Schedule(network.image_shape[-3]).logsnr(1.0 - torch.arange(steps + 1) / steps)
    labels = torch.arange(batch, device=DEVICE) % network.condition.label.classes
    null = torch.full_like(labels, network.condition.label.classes)

    def x_hat(z: Tensor, level: Tensor, acts: bool) -> Tensor:
        copies, given = (2, torch.cat([labels, null])) if acts else (1, labels)
        z = torch.cat([z] * copies)
        v = predict(z, level.expand(len(z)), given)
        both = torch.sigmoid(level).sqrt() * z - torch.sigmoid(-level).sqrt() * v
        positive, *negative = both.chunk(copies)
        if negative:
            positive = positive + 1.0 * (positive - negative[0])
        return positive.clamp(-1.0, 1.0)

    @torch.no_grad()
    def work() -> None:
        z = torch.randn(batch, *network.image_shape, device=DEVICE)
        for step in range(steps):
            x = x_hat(z, levels[step].to(DEVICE), guided[0] <= step < guided[1])
            if step + 1 < steps:
                z = _ddpm(z, x, levels[step], levels[step + 1], fraction)
        (127.5 * x + 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    return work


def _ddpm(z: Tensor, x_hat: Tensor, now: Tensor, then: Tensor, fraction: float) -> Tensor:
    """``r (alpha_s / alpha_t) z + (1 - r) alpha_s x_hat + exp(logvar / 2) noise`` from t to s."""
    r, alpha = torch.exp(now - then), torch.sigmoid(then).sqrt()
    low, high = torch.nn.functional.logsigmoid(-then), torch.nn.functional.logsigmoid(-now)
    spread = (1 - r).sqrt() * torch.exp(0.5 * (fraction * high + (1 - fraction) * low))
    keep, move = r * alpha / torch.sigmoid(now).sqrt(), (1 - r) * alpha
    return float(keep) * z + float(move) * x_hat + float(spread) * torch.randn_like(z)


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
