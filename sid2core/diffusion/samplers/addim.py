"""aDDIM: DDIM with the variance that the prediction, a mean, has lost."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from sid2core.diffusion.parametrisation import alpha_sigma, eps_from_x, per_example
from sid2core.diffusion.samplers.protocol import State, Step
from sid2core.typing import Samples

__all__ = ["ADDIM"]


@dataclass(frozen=True)
class ADDIM:
    """``z_s = alpha_s x_hat + sqrt(sigma_s^2 + (d / ||eps_hat||^2) z_var) eps_hat``.

    z_var = (alpha_s - alpha_t sigma_s / sigma_t)^2 x_var, x_var = eta / (2 + SNR_t): DDIM with the
    noise widened by the variance that x_hat, a mean, has lost. arXiv 2403.06807; 128 steps for
    Kinetics in SiD2 supplement B.7. The norm is each example's own, over its d elements.
    """

    eta: float = 0.1
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse a negative variance."""
        if self.eta < 0.0:
            raise ValueError(f"eta is {self.eta}, expected 0 or more (0 is DDIM)")

    def init(self, z: Samples) -> State:
        """No state."""
        return ()

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """One deterministic step from log-SNR [b] lam_t up to lam_s."""
        alpha_t, sigma_t = alpha_sigma(step.logsnr_t)
        alpha_s, sigma_s = alpha_sigma(step.logsnr_s)
        eps_hat = eps_from_x(z, x_hat, step.logsnr_t)
        x_var = self.eta / (2.0 + jnp.exp(step.logsnr_t))
        z_var = jnp.square(alpha_s - alpha_t * sigma_s / sigma_t) * x_var
        mean_square = jnp.mean(jnp.square(eps_hat), axis=tuple(range(1, eps_hat.ndim)))
        # The floor avoids 0 / 0 where eps_hat is zero everywhere: zero stays zero.
        width = jnp.sqrt(jnp.square(sigma_s) + z_var / jnp.maximum(mean_square, 1e-30))
        return per_example(alpha_s, z) * x_hat + per_example(width, z) * eps_hat, state
