"""The step of a distilled student: from its ancestral step to a deterministic one."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from sid2core.diffusion.parametrisation import alpha_sigma, eps_from_x, per_example
from sid2core.diffusion.samplers.ddim import DDIM
from sid2core.diffusion.samplers.ddpm import DDPM
from sid2core.diffusion.samplers.protocol import State, Step
from sid2core.typing import Samples

__all__ = ["Posterior"]

_ANCESTRAL, _DETERMINISTIC = DDPM(logvar_fraction=0.0), DDIM()


@dataclass(frozen=True)
class Posterior:
    """``z_s = alpha_s x_hat + sqrt(sigma_s^2 - eta^2 v) eps_hat + eta sqrt(v) noise``.

    v = (1 - r) sigma_s^2 with r = exp(lam_t - lam_s) is the variance of the posterior
    q(z_s | z_t, x). The mean is such that every eta keeps the marginal: if x_hat is the x of z_t,
    z_s ~ N(alpha_s x, sigma_s^2). eta = 1 draws from the posterior (arXiv 2406.04103), eta = 0 is
    DDIM. arXiv 2010.02502, Eq. 12 and 16.
    """

    eta: float = 1.0
    evaluations_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse more noise than the posterior has, and less than none."""
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta is {self.eta}, expected 0 (deterministic) to 1 (the posterior)")

    def init(self, z: Samples) -> State:
        """No state."""
        return ()

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """One step from log-SNR [b] lam_t up to lam_s."""
        if self.eta == 1.0:
            return _ANCESTRAL.step(z, x_hat, state, step)
        if self.eta == 0.0:
            return _DETERMINISTIC.step(z, x_hat, state, step)
        alpha_s, sigma_s = alpha_sigma(step.logsnr_s)
        share = -jnp.expm1(step.logsnr_t - step.logsnr_s)  # 1 - r
        kept = sigma_s * jnp.sqrt(1.0 - self.eta**2 * share)
        fresh = sigma_s * self.eta * jnp.sqrt(share)
        eps_hat = eps_from_x(z, x_hat, step.logsnr_t)
        z_s = (
            per_example(alpha_s, z) * x_hat
            + per_example(kept, z) * eps_hat
            + per_example(fresh, z) * step.noise
        )
        return z_s, state
