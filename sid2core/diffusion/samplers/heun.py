"""Heun's method for the probability-flow ODE, as in EDM."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from sid2core.diffusion.parametrisation import alpha_sigma, eps_from_x, per_example
from sid2core.diffusion.samplers.ddim import DDIM
from sid2core.diffusion.samplers.protocol import State, Step
from sid2core.typing import Samples

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun:
    """``z_s = z' + (sigma_s - alpha_s sigma_t / alpha_t) (eps' - eps_hat) / 2``.

    z' is DDIM's z_s, eps_hat the prediction at z_t, eps' the one at z'. arXiv 2206.00364,
    algorithm 1 without churn: in z / alpha and sigma / alpha, where eps_hat is the slope of the
    ODE, this is the trapezoidal rule. Second order; two evaluations per step but the last, in which
    the loop returns x_hat itself (EDM's Euler step to sigma = 0).
    """

    evaluations_per_step: ClassVar[int] = 2

    def init(self, z: Samples) -> State:
        """No state."""
        return ()

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """One deterministic step from log-SNR [b] lam_t up to lam_s."""
        if step.denoise is None:
            raise ValueError("Heun evaluates the model twice per step: step.denoise is None")
        euler, _ = DDIM().step(z, x_hat, (), step)
        end = step.denoise(euler, step.logsnr_s)
        change = eps_from_x(euler, end, step.logsnr_s) - eps_from_x(z, x_hat, step.logsnr_t)
        _, sigma_s = alpha_sigma(step.logsnr_s)
        # sigma_s - alpha_s sigma_t / alpha_t = sigma_s (1 - e^h), h = (lam_s - lam_t) / 2
        rate = -sigma_s * jnp.expm1(0.5 * (step.logsnr_s - step.logsnr_t))
        return euler + 0.5 * per_example(rate, z) * change, state
