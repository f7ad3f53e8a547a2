"""DDPM: ancestral sampling."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from sid2core.diffusion.parametrisation import alpha_sigma, per_example
from sid2core.diffusion.samplers.protocol import State, Step
from sid2core.typing import Samples

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM:
    """``z_s = r (alpha_s / alpha_t) z + (1 - r) alpha_s x_hat + exp(logvar / 2) noise``.

    r = exp(lam_t - lam_s); logvar = f hi + (1 - f) lo, lo = log((1 - r) sigma_s^2), the posterior
    variance of z_s given z_t and x, hi = log((1 - r) sigma_t^2). SiD2 supplement B.6 has
    f = logvar_fraction = 0.3; at f = 0 a step samples from q(z_s | z_t, x = x_hat).
    """

    logvar_fraction: float = 0.3
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse a variance outside its two bounds."""
        if not 0.0 <= self.logvar_fraction <= 1.0:
            raise ValueError(f"logvar_fraction is {self.logvar_fraction}, expected 0 to 1")

    def init(self, z: Samples) -> State:
        """No state."""
        return ()

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """One ancestral step from log-SNR [b] lam_t up to lam_s."""
        logsnr_t, logsnr_s, noise, _ = step
        alpha_s, _ = alpha_sigma(logsnr_s)
        gain = -jnp.expm1(logsnr_t - logsnr_s)  # 1 - r
        log_alpha_ratio = 0.5 * (jax.nn.log_sigmoid(logsnr_s) - jax.nn.log_sigmoid(logsnr_t))
        keep = jnp.exp(logsnr_t - logsnr_s + log_alpha_ratio)
        low, high = jax.nn.log_sigmoid(-logsnr_s), jax.nn.log_sigmoid(-logsnr_t)
        mixed = self.logvar_fraction * high + (1.0 - self.logvar_fraction) * low
        spread = jnp.sqrt(gain) * jnp.exp(0.5 * mixed)
        z_s = (
            per_example(keep, z) * z
            + per_example(gain * alpha_s, z) * x_hat
            + per_example(spread, z) * noise
        )
        return z_s, state
