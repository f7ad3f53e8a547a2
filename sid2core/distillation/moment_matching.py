"""Moment matching in its alternating form (arXiv 2406.04103).

A student g_eta that takes k steps learns to draw, at every time, images whose conditional mean
given a noisier version is the teacher's. An auxiliary network g_phi keeps estimating that mean for
the student's own images. With t ~ U(0, 1), s = max(t − U(0, 1/k), 0), z_t from data,
x~ = g_eta(z_t) and z_s ~ q(z_s | z_t, x~):

    auxiliary:  min over phi  w(s) ( ‖x~ − g_phi(z_s)‖² + ‖g_theta(z_s) − g_phi(z_s)‖² )
    student:    min over eta  w(s) x~ᵀ stopgrad( g_phi(z_s) − g_theta(z_s) )

The teacher g_theta is guided, so the student needs one evaluation a step (SiD2 Table 5: 16 steps
cost 16 forward passes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sid2core import config, rng
from sid2core.data.loader import Loader
from sid2core.data.pixels import to_unit
from sid2core.diffusion import parametrisation
from sid2core.diffusion.guidance import Guidance, guided_x
from sid2core.diffusion.samplers import DDPM
from sid2core.diffusion.schedule import Schedule
from sid2core.diffusion.times import antithetic_times
from sid2core.models.network import Parameters
from sid2core.sampling import Denoiser
from sid2core.training import optimiser
from sid2core.training.loop import Run
from sid2core.typing import Array, Image, Labels, LogSnr, Pixels, Scalar

STUDENT_SAMPLER = DDPM(logvar_fraction=0.0)
"""The student's step is the exact posterior q(z_s | z_t, x~): the lower variance bound."""


class Step(NamedTuple):
    """One draw of the process: where the student stood, what it said, where that led."""

    x_tilde: Image
    z_s: Image
    logsnr_s: LogSnr
    labels: Labels


@dataclass(frozen=True)
class MomentMatching:
    """The two objectives; the teacher's parameters are fixed inputs.

    Attributes:
        denoiser: architecture and prediction of all three networks.
        schedule: the teacher's noise schedule.
        guidance: the teacher's guidance, evaluated at each example's own log-SNR.
        steps: k, the number of steps the student will take.
    """

    denoiser: Denoiser
    schedule: Schedule
    guidance: Guidance
    steps: int

    def draw(self, student: Parameters, x: Image, labels: Labels, key: Array) -> Step:
        """z_t from data, x~ from the student, z_s from the posterior; differentiable in x~ only."""
        key_t, key_gap, key_eps, key_noise = jax.random.split(key, 4)
        t = antithetic_times(key_t, len(x))
        gap = jax.random.uniform(key_gap, t.shape) / self.steps
        logsnr_t, logsnr_s = self.schedule.logsnr(t), self.schedule.logsnr(jnp.maximum(t - gap, 0))
        z_t = parametrisation.diffuse(x, jax.random.normal(key_eps, x.shape), logsnr_t)
        x_tilde = self.denoiser(student, z_t, logsnr_t, labels)
        noise = jax.random.normal(key_noise, x.shape)
        fixed = jax.lax.stop_gradient(x_tilde)
        z_s = STUDENT_SAMPLER.step(z_t, fixed, noise, logsnr_t, logsnr_s)
        return Step(x_tilde, z_s, logsnr_s, labels)

    def teacher(self, params: Parameters, step: Step) -> Image:
        """The guided teacher's x_hat at z_s."""
        conditional = self.denoiser(params, step.z_s, step.logsnr_s, step.labels)
        unconditional = self.denoiser.unconditional(params, step.z_s, step.logsnr_s)
        return guided_x(self.guidance, conditional, unconditional, step.logsnr_s)

    def auxiliary_loss(self, auxiliary: Parameters, teacher: Parameters, step: Step) -> Scalar:
        """w(s) ( ‖x~ − g_phi‖² + ‖g_theta − g_phi‖² ), a mean over pixels and examples."""
        mean = self.denoiser(auxiliary, step.z_s, step.logsnr_s, step.labels)
        target = self.teacher(teacher, step)
        error = jnp.square(step.x_tilde - mean) + jnp.square(target - mean)
        return jnp.mean(_weighted(error, step.logsnr_s))

    def student_loss(self, auxiliary: Parameters, teacher: Parameters, step: Step) -> Scalar:
        """w(s) x~ᵀ stopgrad(g_phi − g_theta), a mean over pixels and examples."""
        mean = self.denoiser(auxiliary, step.z_s, step.logsnr_s, step.labels)
        direction = jax.lax.stop_gradient(mean - self.teacher(teacher, step))
        return jnp.mean(_weighted(step.x_tilde * direction, step.logsnr_s))


def _weighted(values: Image, logsnr: LogSnr) -> Image:
    """Times w = 1 + SNR clipped: the weight that makes an x error a v error."""
    weight = jnp.minimum(1.0 + jnp.exp(logsnr), MAX_WEIGHT)
    return parametrisation.per_example(weight, values) * values
