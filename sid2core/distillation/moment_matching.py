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

from sid2core import conditioning, config, rng
from sid2core.conditioning import Condition
from sid2core.data.load.loader import Batch, Loader
from sid2core.data.load.pixels import to_unit
from sid2core.diffusion import parametrisation, samplers
from sid2core.diffusion.guidance import Guidance, guided_x
from sid2core.diffusion.noise import standard_normal
from sid2core.diffusion.schedule import Schedule
from sid2core.diffusion.times import antithetic_times
from sid2core.inference import negatives
from sid2core.inference.generator import STUDENT_SAMPLER, Denoiser
from sid2core.inference.negatives import WorseModel
from sid2core.models.network import Parameters
from sid2core.training import ema, optimiser, skip_nonfinite
from sid2core.training.accumulation import Scalars, mean_and_gradient
from sid2core.training.loop import Run
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Array, LogSnr, RawExamples, Samples, Scalar, Time


class Step(NamedTuple):
    """One step of the student: its estimate of x, and the noisy sample that follows from it."""

    x_tilde: Samples
    z_s: Samples
    logsnr_s: LogSnr
    condition: Condition


class Teacher(NamedTuple):
    """The weights of the teacher, and those of the worse model of its autoguidance, if it has."""

    params: Parameters
    worse: Parameters | None = None


class Draws(NamedTuple):
    """The random choices of a batch."""

    t: Time
    gap: Time
    """From t back to s."""
    eps: Samples
    noise: Samples
    """Of the step to s."""


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
        worse: the negative of autoguidance.
    """

    denoiser: Denoiser
    schedule: Schedule
    guidance: Guidance
    steps: int
    max_weight: float
    worse: Denoiser | None = None

    def __post_init__(self) -> None:
        """Refuse guidance whose negative is missing."""
        spec, worse = self.denoiser.network.config.condition, self.worse
        negatives.check(self.guidance, spec, None if worse is None else WorseModel(worse, {}))

    def draw(self, student: Parameters, x: Samples, condition: Condition, key: Array) -> Step:
        """z_t from data, x~ from the student, z_s from the posterior; differentiable in x~ only."""
        return self.stepped(student, x, condition, self.drawn(x.shape, key))

    def drawn(self, shape: tuple[int, ...], key: Array) -> Draws:
        """The random choices of a batch of ``shape``."""
        key_t, key_gap, key_eps, key_noise = jax.random.split(key, 4)
        t = antithetic_times(key_t, shape[0])
        gap = jax.random.uniform(key_gap, t.shape) / self.steps
        return Draws(t, gap, standard_normal(key_eps, shape), standard_normal(key_noise, shape))

    def stepped(self, student: Parameters, x: Samples, condition: Condition, draws: Draws) -> Step:
        """As :meth:`draw`, with its random choices made."""
        logsnr_t = self.schedule.logsnr(draws.t)
        logsnr_s = self.schedule.logsnr(jnp.maximum(draws.t - draws.gap, 0))
        z_t = parametrisation.diffuse(x, draws.eps, logsnr_t)
        x_tilde = self.denoiser(student, z_t, logsnr_t, condition)
        fixed = jax.lax.stop_gradient(x_tilde)
        z_s, _ = STUDENT_SAMPLER.step(
            z_t, fixed, (), samplers.Step(logsnr_t, logsnr_s, draws.noise)
        )
        return Step(x_tilde, z_s, logsnr_s, condition)

    def teacher(self, teacher: Teacher, step: Step) -> Samples:
        """The guided teacher's x_hat at z_s."""
        params, worse = teacher
        given = step.z_s, step.logsnr_s, step.condition
        if self.guidance.weight == 0.0:
            return self.denoiser(params, *given)
        if self.worse is not None and worse is not None:
            good, bad = self.denoiser(params, *given), self.worse(worse, *given)
            return guided_x(self.guidance, good, bad, step.logsnr_s)
        null = self.denoiser.network.config.condition.null(len(step.z_s))
        z, logsnr = (jnp.concatenate([one, one]) for one in (step.z_s, step.logsnr_s))
        condition = conditioning.concatenated(step.condition, null)
        conditional, unconditional = jnp.split(self.denoiser(params, z, logsnr, condition), 2)
        return guided_x(self.guidance, conditional, unconditional, step.logsnr_s)

    def auxiliary_loss(self, auxiliary: Parameters, teacher: Teacher, step: Step) -> Scalar:
        """w(s) ( ‖x~ − g_phi‖² + ‖g_theta − g_phi‖² ), a mean over pixels and examples."""
        mean = self.denoiser(auxiliary, step.z_s, step.logsnr_s, step.condition)
        target = self.teacher(teacher, step)
        error = jnp.square(step.x_tilde - mean) + jnp.square(target - mean)
        return self._mean(error, step.logsnr_s)

    def student_loss(self, auxiliary: Parameters, teacher: Teacher, step: Step) -> Scalar:
        """w(s) x~ᵀ stopgrad(g_phi − g_theta), a mean over pixels and examples."""
        mean = self.denoiser(auxiliary, step.z_s, step.logsnr_s, step.condition)
        direction = jax.lax.stop_gradient(mean - self.teacher(teacher, step))
        return self._mean(step.x_tilde * direction, step.logsnr_s)

    def _mean(self, values: Samples, logsnr: LogSnr) -> Scalar:
        weight = jnp.minimum(1.0 + jnp.exp(logsnr), self.max_weight)
        return jnp.mean(parametrisation.per_example(weight, values) * values)


Part = tuple[RawExamples, Condition, Draws]


def update(
    state: Mapping[str, Any],
    teacher: Teacher,
    batches: tuple[Batch, Batch],
    key: Array,
    *,
    matching: MomentMatching,
    chain: optax.GradientTransformation,
    ema_decay: float,
    parts: int = 1,
    layout: Layout = ONE_DEVICE,
) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """One iteration: an update of the auxiliary on one batch, of the student on the next."""
    keys = jax.random.split(jax.random.fold_in(key, state["step"]))
    teacher, fixed = layout.replicate(teacher), layout.replicate(state["student"])

    def improved(name: str, loss: Any, batch: Batch, key: Array) -> Any:
        whole = (*batch, matching.drawn(batch.examples.shape, key))
        weights = layout.replicate(state[name])
        (value, _), gradient = mean_and_gradient(loss, weights, whole, parts, layout)
        change, moments = chain.update(gradient, state[f"optimiser_{name}"], state[name])
        new = optax.apply_updates(state[name], change)
        trees = {"grad": gradient, "param": new, "update": change}
        norms = {f"{one}_norm_{name}": optax.tree.norm(tree) for one, tree in trees.items()}
        return new, moments, value, norms

    def auxiliary_loss(weights: Parameters, part: Part, _: Any) -> tuple[Scalar, Scalars]:
        images, condition, draws = part
        seen = matching.stepped(fixed, to_unit(images), condition, draws)
        return matching.auxiliary_loss(weights, teacher, seen), {}

    auxiliary, optimiser_a, loss_a, norms_a = improved(
        "auxiliary", auxiliary_loss, batches[0], keys[0]
    )
    known = layout.replicate(auxiliary)

    def student_loss(weights: Parameters, part: Part, _: Any) -> tuple[Scalar, Scalars]:
        images, condition, draws = part
        step = matching.stepped(weights, to_unit(images), condition, draws)
        return matching.student_loss(known, teacher, step), {}

    student, optimiser_s, loss_s, norms_s = improved("student", student_loss, batches[1], keys[1])
    new = {
        "step": state["step"] + 1,
        "student": student,
        "ema": optax.incremental_update(
            student, state["ema"], ema.decaying(ema_decay)(state["step"] + 1)
        ),
        "auxiliary": auxiliary,
        "optimiser_student": optimiser_s,
        "optimiser_auxiliary": optimiser_a,
    }
    return new, {"loss": loss_a, "loss_student": loss_s} | norms_a | norms_s


def initial_state(teacher: Parameters, chain: optax.GradientTransformation) -> dict[str, Any]:
    """Student, its EMA and auxiliary all start from the teacher."""
    return {
        "step": jnp.zeros((), jnp.int32),
        "student": jax.tree.map(jnp.copy, teacher),
        "ema": jax.tree.map(jnp.copy, teacher),
        "auxiliary": jax.tree.map(jnp.copy, teacher),
        "optimiser_student": chain.init(teacher),
        "optimiser_auxiliary": chain.init(teacher),
    }


def distillation_run(
    settings: config.Distill,
    matching: MomentMatching,
    teacher: Teacher,
    loader: Loader,
    seed: int,
    layout: Layout = ONE_DEVICE,
) -> Run:
    """The distillation of ``teacher`` into a student of ``matching.steps`` steps.

    Raises:
        ParamsError: the parts of a batch cannot be divided over the devices.
    """
    name = f"student_{matching.steps}"
    layout.check_parts("distill", settings.batch_size, settings.accumulation)
    chain, teacher = (
        optimiser.build(settings.optimiser, settings.iterations),
        layout.shard(teacher),
    )

    def initial(teacher: Teacher) -> dict[str, Any]:
        return skip_nonfinite.watched(initial_state(teacher.params, chain))

    plain = partial(
        update,
        matching=matching,
        chain=chain,
        ema_decay=settings.ema_decay,
        parts=settings.accumulation,
        layout=layout,
    )
    compiled = layout.compiled(skip_nonfinite.guarded(plain), lambda: initial(teacher))
    rate = optimiser.learning_rate(settings.optimiser, settings.iterations)
    key = rng.key(seed, f"distill/{name}")

    def batches(index: int) -> Generator[tuple[Batch, Batch], None, None]:
        with closing(loader.stream(2 * index, 2 * (settings.iterations - index))) as stream:
            for first in stream:
                yield first, next(stream)

    def step(state: Any, pair: tuple[Batch, Batch], index: int) -> tuple[Any, dict[str, Scalar]]:
        state, scalars = compiled(state, teacher, pair, key)
        return state, scalars | {"learning_rate": rate(index)}

    return Run(
        name=name,
        steps=settings.iterations,
        init=lambda: layout.init_sharded(initial, teacher),
        batches=batches,
        step=step,
        images_per_step=2 * settings.batch_size,
        cure="lower distill.optimiser.learning_rate or distill.form.alternating.max_weight",
        layout=layout,
    )
