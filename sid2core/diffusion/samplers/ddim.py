"""DDIM: Euler's method for the probability-flow ODE."""

from dataclasses import dataclass
from typing import ClassVar

from sid2core.diffusion.parametrisation import alpha_sigma, eps_from_x, per_example
from sid2core.diffusion.samplers.protocol import State, Step
from sid2core.typing import Samples

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM:
    """``z_s = alpha_s x_hat + sigma_s eps_hat, eps_hat = (z - alpha_t x_hat) / sigma_t``.

    arXiv 2010.02502 with eta = 0.
    """

    evaluations_per_step: ClassVar[int] = 1

    def init(self, z: Samples) -> State:
        """No state."""
        return ()

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """One deterministic step from log-SNR [b] lam_t up to lam_s."""
        alpha_s, sigma_s = alpha_sigma(step.logsnr_s)
        eps_hat = eps_from_x(z, x_hat, step.logsnr_t)
        return per_example(alpha_s, z) * x_hat + per_example(sigma_s, z) * eps_hat, state
