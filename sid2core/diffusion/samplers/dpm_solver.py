"""DPM-Solver++(2M): a second-order multistep solver of the probability-flow ODE."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from sid2core.diffusion.parametrisation import alpha_sigma, per_example
from sid2core.diffusion.samplers.protocol import State, Step
from sid2core.typing import LogSnr, Samples

__all__ = ["DPMSolver"]


class _Previous(NamedTuple):
    """The step before: its prediction, and the log-SNR at its start (-inf before the first)."""

    x_hat: Samples
    logsnr: LogSnr


@dataclass(frozen=True)
class DPMSolver:
    """``z_s = (sigma_s / sigma_t) z + alpha_s (1 - e^-h) (x_hat + (h / 2 h') (x_hat - x_hat'))``.

    h = (lam_s - lam_t) / 2, and h' and x_hat' are those of the previous step. DPM-Solver++(2M),
    arXiv 2211.01095 algorithm 2: data prediction, extrapolated linearly in log-SNR, one evaluation
    per step. The first step has no previous one and is first order (h' is infinite), which is DDIM;
    so is the last step, to infinite log-SNR, which the loop takes: x_hat itself.

    Where guidance begins or ends, x_hat jumps, and the step after the jump extrapolates it.
    """

    evaluations_per_step: ClassVar[int] = 1

    def init(self, z: Samples) -> State:
        """No previous step: an infinite h' leaves x_hat as it is."""
        return _Previous(jnp.zeros_like(z), jnp.full(z.shape[:1], -jnp.inf, z.dtype))

    def step(self, z: Samples, x_hat: Samples, state: State, step: Step) -> tuple[Samples, State]:
        """One deterministic step from log-SNR [b] lam_t up to lam_s."""
        alpha_s, sigma_s = alpha_sigma(step.logsnr_s)
        _, sigma_t = alpha_sigma(step.logsnr_t)
        twice_h = step.logsnr_s - step.logsnr_t
        ratio = 0.5 * twice_h / (step.logsnr_t - state.logsnr)
        predicted = x_hat + per_example(ratio, z) * (x_hat - state.x_hat)
        gain = -alpha_s * jnp.expm1(-0.5 * twice_h)
        z_s = per_example(sigma_s / sigma_t, z) * z + per_example(gain, z) * predicted
        return z_s, _Previous(x_hat, step.logsnr_t)
