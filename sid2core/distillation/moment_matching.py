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

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sid2core import config, rng
from sid2core.data.loader import Batch, Loader
from sid2core.data.pixels import to_unit
from sid2core.diffusion import parametrisation
from sid2core.diffusion.guidance import Guidance, guided_x
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.schedule import Schedule
from sid2core.diffusion.times import antithetic_times
from sid2core.models.network import Parameters
from sid2core.sampling import STUDENT_SAMPLER, Denoiser
from sid2core.training import optimiser
from sid2core.training.loop import Run
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Array, Image, Labels, LogSnr, Pixels, Scalar


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
        max_weight: cap of w(s) = min(1 + SNR(s), max_weight); 1 + SNR makes an error in x one in
            v, and the cap keeps the nearly clean images from outweighing all others.
    """

    denoiser: Denoiser
    schedule: Schedule
    guidance: Guidance
    steps: int
    max_weight: float

    def draw(self, student: Parameters, x: Image, labels: Labels, key: Array) -> Step:
        """z_t from data, x~ from the student, z_s from the posterior; differentiable in x~ only."""
        key_t, key_gap, key_eps, key_noise = jax.random.split(key, 4)
        t = antithetic_times(key_t, len(x))
        gap = jax.random.uniform(key_gap, t.shape) / self.steps
        logsnr_t, logsnr_s = self.schedule.logsnr(t), self.schedule.logsnr(jnp.maximum(t - gap, 0))
        z_t = parametrisation.diffuse(x, standard_normal(key_eps, x.shape), logsnr_t)
        x_tilde = self.denoiser(student, z_t, logsnr_t, labels)
        noise = standard_normal(key_noise, x.shape)
        fixed = jax.lax.stop_gradient(x_tilde)
        z_s = STUDENT_SAMPLER.step(z_t, fixed, noise, logsnr_t, logsnr_s)
        return Step(x_tilde, z_s, logsnr_s, labels)

    def teacher(self, params: Parameters, step: Step) -> Image:
        """The guided teacher's x_hat at z_s."""
        null = jnp.full_like(step.labels, self.denoiser.network.config.num_classes)
        twice = (step.z_s, step.logsnr_s, step.labels), (step.z_s, step.logsnr_s, null)
        z, logsnr, labels = (jnp.concatenate(pair) for pair in zip(*twice, strict=True))
        conditional, unconditional = jnp.split(self.denoiser(params, z, logsnr, labels), 2)
        return guided_x(self.guidance, conditional, unconditional, step.logsnr_s)

    def auxiliary_loss(self, auxiliary: Parameters, teacher: Parameters, step: Step) -> Scalar:
        """w(s) ( ‖x~ − g_phi‖² + ‖g_theta − g_phi‖² ), a mean over pixels and examples."""
        mean = self.denoiser(auxiliary, step.z_s, step.logsnr_s, step.labels)
        target = self.teacher(teacher, step)
        error = jnp.square(step.x_tilde - mean) + jnp.square(target - mean)
        return self._mean(error, step.logsnr_s)

    def student_loss(self, auxiliary: Parameters, teacher: Parameters, step: Step) -> Scalar:
        """w(s) x~ᵀ stopgrad(g_phi − g_theta), a mean over pixels and examples."""
        mean = self.denoiser(auxiliary, step.z_s, step.logsnr_s, step.labels)
        direction = jax.lax.stop_gradient(mean - self.teacher(teacher, step))
        return self._mean(step.x_tilde * direction, step.logsnr_s)

    def _mean(self, values: Image, logsnr: LogSnr) -> Scalar:
        weight = jnp.minimum(1.0 + jnp.exp(logsnr), self.max_weight)
        return jnp.mean(parametrisation.per_example(weight, values) * values)


def update(
    state: Mapping[str, Any],
    teacher: Parameters,
    batches: tuple[tuple[Pixels, Labels], tuple[Pixels, Labels]],
    key: Array,
    *,
    matching: MomentMatching,
    optimiser: optax.GradientTransformation,
    ema_decay: float,
    layout: Layout = ONE_DEVICE,
) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """One iteration: an update of the auxiliary on one batch, of the student on the next."""
    keys = jax.random.split(jax.random.fold_in(key, state["step"]))
    (images_a, labels_a), (images_s, labels_s) = batches
    teacher, weights = layout.gathered(teacher), layout.gathered(state["student"])
    seen = matching.draw(weights, to_unit(images_a), labels_a, keys[0])
    loss_a, gradient_a = jax.value_and_grad(matching.auxiliary_loss)(
        layout.gathered(state["auxiliary"]), teacher, seen
    )
    change, optimiser_a = optimiser.update(
        layout.divided(gradient_a), state["optimiser_auxiliary"], state["auxiliary"]
    )
    auxiliary = optax.apply_updates(state["auxiliary"], change)

    def student_loss(student: Parameters) -> Scalar:
        step = matching.draw(student, to_unit(images_s), labels_s, keys[1])
        return matching.student_loss(layout.gathered(auxiliary), teacher, step)

    loss_s, gradient_s = jax.value_and_grad(student_loss)(weights)
    gradient_s = layout.divided(gradient_s)
    change, optimiser_s = optimiser.update(gradient_s, state["optimiser_student"], state["student"])
    student = optax.apply_updates(state["student"], change)
    new = {
        "step": state["step"] + 1,
        "student": student,
        "ema": optax.incremental_update(student, state["ema"], 1.0 - ema_decay),
        "auxiliary": auxiliary,
        "optimiser_student": optimiser_s,
        "optimiser_auxiliary": optimiser_a,
    }
    norm = optax.tree.norm(gradient_s)
    scalars = {"loss": loss_a, "loss_student": loss_s, "grad_norm_student": norm}
    return new, scalars


def initial_state(teacher: Parameters, optimiser: optax.GradientTransformation) -> dict[str, Any]:
    """Student, its EMA and auxiliary all start from the teacher."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "student": jax.tree.map(jnp.copy, teacher),
        "ema": jax.tree.map(jnp.copy, teacher),
        "auxiliary": jax.tree.map(jnp.copy, teacher),
        "optimiser_student": optimiser.init(teacher),
        "optimiser_auxiliary": optimiser.init(teacher),
    }


def distillation_run(
    settings: config.Distill,
    matching: MomentMatching,
    teacher: Parameters,
    loader: Loader,
    seed: int,
    layout: Layout = ONE_DEVICE,
) -> Run:
    """The distillation of ``teacher`` into a student of ``matching.steps`` steps."""
    name = f"student_{matching.steps}"
    chain, teacher = (
        optimiser.build(settings.optimiser, settings.iterations),
        layout.placed(teacher),
    )
    initial = partial(initial_state, optimiser=chain)
    one = partial(
        update, matching=matching, optimiser=chain, ema_decay=settings.ema_decay, layout=layout
    )
    compiled = layout.compiled(one, lambda: initial(teacher))
    key = rng.key(seed, f"distill/{name}")

    def batches(index: int) -> Generator[tuple[Batch, Batch], None, None]:
        with closing(loader.stream(2 * index, 2 * (settings.iterations - index))) as stream:
            for first in stream:
                yield first, next(stream)

    def step(state: Any, pair: tuple[Batch, Batch], index: int) -> tuple[Any, dict[str, Scalar]]:
        return compiled(state, teacher, pair, key)

    return Run(
        name=name,
        steps=settings.iterations,
        init=lambda: layout.born(initial, teacher),
        batches=batches,
        step=step,
        images_per_step=2 * settings.batch_size,
        cure="lower distill.optimiser.learning_rate or distill.max_weight",
        layout=layout,
    )
