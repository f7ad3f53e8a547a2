"""How a SiD2 model draws: noise schedule, guidance and samplers, for arrays of NumPy or PyTorch.

Only the standard library is used. z = alpha x + sigma eps with alpha^2 = sigmoid(lam) and
sigma^2 = sigmoid(-lam), lam the log-SNR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

Network = Callable[[Any, float, bool], Any]
"""Output of the network for (z, log-SNR, whether the negative condition is meant)."""


def draw(network: Network, noise: Callable[[int], Any], settings: Mapping[str, Any]) -> Any:
    """Images [b, …] in [-1, 1].

    Args:
        network: its output, as ``settings["prediction"]`` says: v, eps or x.
        noise: standard normal noise [b, …]: of the start for 0, of step i for i + 1.
        settings: ``schedule``, ``prediction``, ``sampler``, ``steps``, ``guidance``, ``interval``.
    """
    steps, weight = settings["steps"], settings["guidance"]
    low, high = settings["interval"] or (-math.inf, math.inf)
    levels = [logsnr(settings["schedule"], 1.0 - i / steps) for i in range(steps + 1)]

    def predict(z: Any, lam: float) -> Any:
        x = x_from(settings["prediction"], z, network(z, lam, False), lam)
        if weight and low < lam < high:
            negative = x_from(settings["prediction"], z, network(z, lam, True), lam)
            x = x + weight * (x - negative)
        return x.clip(-1.0, 1.0)

    z, before = noise(0), None
    for i in range(steps - 1):
        x = predict(z, levels[i])
        at = (levels[i], levels[i + 1], None if before is None else (before, levels[i - 1]))
        z, before = step(settings["sampler"], z, x, at, partial(noise, i + 1), predict), x
    return predict(z, levels[steps - 1])


def logsnr(schedule: Mapping[str, Any], t: float) -> float:
    """``-2 log tan(a t + b) + (1 - t) shift[0] + t shift[1]``."""
    b = math.atan(math.exp(-0.5 * schedule["logsnr_max"]))
    c = math.atan(math.exp(0.5 * schedule["logsnr_min"]))
    a, (data, end) = 0.5 * math.pi - b - c, schedule["shift"]
    cosine = 2.0 * (math.log(math.sin(a * (1.0 - t) + c)) - math.log(math.sin(a * t + b)))
    return cosine + (1.0 - t) * data + t * end


def alpha_sigma(lam: float) -> tuple[float, float]:
    """``sqrt(sigmoid(lam)), sqrt(sigmoid(-lam))``."""
    return (1.0 + math.exp(-lam)) ** -0.5, (1.0 + math.exp(lam)) ** -0.5


def x_from(prediction: str, z: Any, output: Any, lam: float) -> Any:
    """The estimate of the clean image from the network's output."""
    alpha, sigma = alpha_sigma(lam)
    if prediction == "x":
        return output
    return alpha * z - sigma * output if prediction == "v" else (z - sigma * output) / alpha


def step(
    sampler: Mapping[str, Any],
    z: Any,
    x: Any,
    at: tuple[float, float, tuple[Any, float] | None],
    noise: Callable[[], Any],
    predict: Callable[[Any, float], Any],
) -> Any:
    """z_s from z_t and x; ``at`` is lam_t, lam_s, and x with its lam of the step before."""
    (t, s, before), name = at, sampler["name"]
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
    share = -math.expm1(t - s)
    if name == "ddpm":
        fraction = sampler["logvar_fraction"]
        spread = math.sqrt(share) * sigma_t**fraction * sigma_s ** (1.0 - fraction)
        keep = math.exp(t - s) * alpha_s / alpha_t
        return keep * z + share * alpha_s * x + spread * noise()
    if name == "posterior":
        eta = sampler["eta"]
        kept = sigma_s * math.sqrt(1.0 - eta**2 * share)
        z_s = kept / sigma_t * z + (alpha_s - kept * alpha_t / sigma_t) * x
        return z_s + sigma_s * eta * math.sqrt(share) * noise() if eta else z_s
    if name == "dpm_solver":
        ratio = 0.0 if before is None else 0.5 * (s - t) / (t - before[1])
        ahead = x if before is None else x + ratio * (x - before[0])
        return sigma_s / sigma_t * z - alpha_s * math.expm1(0.5 * (t - s)) * ahead
    eps = (z - alpha_t * x) / sigma_t
    if name == "addim":
        extra = (alpha_s - alpha_t * sigma_s / sigma_t) ** 2 * sampler["eta"] / (2.0 + math.exp(t))
        square = (eps**2).reshape(len(eps), -1).mean(1).reshape(-1, *[1] * (len(eps.shape) - 1))
        return alpha_s * x + (sigma_s**2 + extra / (square + 1e-30)) ** 0.5 * eps
    euler = alpha_s * x + sigma_s * eps
    if name == "heun":
        change = (euler - alpha_s * predict(euler, s)) / sigma_s - eps
        return euler - 0.5 * sigma_s * math.expm1(0.5 * (s - t)) * change
    return euler  # ddim
