"""The training of a student, the same for every form of moment matching."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sid2core import config, rng
from sid2core.data.load.loader import Batch, Loader
from sid2core.distillation.protocol import Form, Half
from sid2core.distillation.states import Step
from sid2core.distillation.teacher import Teacher
from sid2core.models.network import Parameters
from sid2core.training import ema, optimiser, skip_nonfinite
from sid2core.training.loop import Run
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Array, Scalar


class Student(NamedTuple):
    """A student's weights, and the networks that its form keeps beside it (:meth:`Form.kept`)."""

    params: Parameters
    kept: Mapping[str, Parameters]


def update(
    state: Mapping[str, Any],
    teacher: Teacher,
    batches: tuple[Batch, Batch],
    key: Array,
    *,
    form: Form,
    chain: optax.GradientTransformation,
    ema_decay: float,
    parts: int = 1,
    layout: Layout = ONE_DEVICE,
) -> tuple[dict[str, Any], dict[str, Scalar]]:
    """One iteration: the form judges the student on one batch, the student learns on the next.

    ``key`` is folded with the state's own step.
    """
    keys = jax.random.split(jax.random.fold_in(key, state["step"]))

    def half(batch: Batch, key: Array) -> Half:
        draws, dropout = form.states.drawn(batch.examples.shape, key), jax.random.fold_in(key, 5)
        return Half(form.states, batch, draws, dropout, state["student"], parts, layout)

    judged = form.judged(state, teacher, half(batches[0], keys[0]), chain)

    def loss(step: Step) -> Scalar:
        return form.student_loss(judged.critic, teacher, step)

    value, gradient = half(batches[1], keys[1]).student_gradient(loss)
    change, moments = chain.update(gradient, state["optimiser_student"], state["student"])
    new = optax.apply_updates(state["student"], change)
    trees = {"grad": gradient, "param": new, "update": change}
    norms = {f"{name}_norm_student": optax.tree.norm(tree) for name, tree in trees.items()}
    average = ema.decaying(ema_decay)(state["step"] + 1)
    after = {
        "step": state["step"] + 1,
        "student": new,
        "ema": optax.incremental_update(new, state["ema"], average),
        "optimiser_student": moments,
    }
    return after | judged.state, judged.scalars | {"loss_student": value} | norms


def initial_state(
    form: Form,
    teacher: Parameters,
    chain: optax.GradientTransformation,
    start: Student | None = None,
) -> dict[str, Any]:
    """Step 0: the student, its EMA and what the form keeps start from the teacher, or ``start``."""
    first = Student(teacher, {}) if start is None else start
    student, kept = jax.tree.map(jnp.copy, first)
    return {
        "step": jnp.zeros((), jnp.int32),
        "student": student,
        "ema": jax.tree.map(jnp.copy, student),
        "optimiser_student": chain.init(student),
    } | form.initial(teacher, kept, chain)


def distillation_run(
    settings: config.Distill,
    form: Form,
    teacher: Teacher,
    loader: Loader,
    seed: int,
    layout: Layout = ONE_DEVICE,
    start: Student | None = None,
) -> Run:
    """The distillation of ``teacher`` into a student of ``form.states.steps`` steps.

    It starts from the teacher, or from another student (``start``).

    Raises:
        ParamsError: the parts of a batch cannot be divided over the devices.
    """
    name = f"student_{form.states.steps}"
    layout.check_parts("distill", settings.batch_size, settings.accumulation)
    chain = optimiser.build(settings.optimiser, settings.iterations)
    teacher = layout.shard(teacher)
    first = (teacher.params, None if start is None else layout.shard(start))

    def initial(teacher: Parameters, start: Student | None) -> dict[str, Any]:
        return skip_nonfinite.watched(initial_state(form, teacher, chain, start))

    plain = partial(
        update,
        form=form,
        chain=chain,
        ema_decay=settings.ema_decay,
        parts=settings.accumulation,
        layout=layout,
    )
    compiled = layout.compiled(skip_nonfinite.guarded(plain), lambda: initial(*first))
    rate = optimiser.learning_rate(settings.optimiser, settings.iterations)
    key = rng.key(seed, f"distill/{name}")

    def batches(index: int) -> Generator[tuple[Batch, Batch], None, None]:
        with closing(loader.stream(2 * index, 2 * (settings.iterations - index))) as stream:
            for one in stream:
                yield one, next(stream)

    def step(state: Any, pair: tuple[Batch, Batch], index: int) -> tuple[Any, dict[str, Scalar]]:
        state, scalars = compiled(state, teacher, pair, key)
        return state, scalars | {"learning_rate": rate(index)}

    return Run(
        name=name,
        steps=settings.iterations,
        init=lambda: layout.init_sharded(initial, *first),
        batches=batches,
        step=step,
        images_per_step=2 * settings.batch_size,
        cure=f"lower distill.optimiser.learning_rate or distill.form.{settings.form.name}"
        ".max_weight",
        layout=layout,
    )
