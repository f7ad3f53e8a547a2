"""What distillation costs: its networks, the forward passes of an iteration, and time.

The teacher is counted with its costliest guidance: which one it will be is known after the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sid2core import config
from sid2core.config.search import NULL, TRAINED
from sid2core.models import cost

_ZETTA, _GIGA = 1e21, 1e9


@dataclass(frozen=True)
class Passes:
    """Evaluations for one example of each batch of an iteration.

    Attributes:
        plain: of networks as large as the base model, without a backward pass.
        trained: of these, with one.
        negative: of the teacher's negative.
    """

    plain: int
    trained: int
    negative: int


@dataclass(frozen=True)
class Form:
    """What a form of moment matching holds and computes.

    Attributes:
        copies: sets of weights and moments that an iteration changes.
        gradients: sets of gradients at once.
        passes: what an iteration computes, with states from data.
    """

    copies: int
    gradients: int
    passes: Passes


FORMS: Mapping[str, Form] = {
    # Student, its average, auxiliary, two moments of each that is trained. The auxiliary's update
    # evaluates student and teacher, the student's update auxiliary and teacher.
    "alternating": Form(7, 1, Passes(plain=4, trained=2, negative=2)),
    # Student, its average, its two moments. The teacher's gradient evaluates the student and
    # differentiates the teacher; the student's update takes the tangent of the teacher, two passes.
    "parameter_space": Form(4, 2, Passes(plain=3, trained=2, negative=1)),
}
"""By the name of ``distill.form``; other forms, such as those of plugins, have no price."""
_OF_ADAM = 1
"""The second moments of the form ``parameter_space`` with Adam as its preconditioner."""


@dataclass(frozen=True)
class Model:
    """The size of a network.

    Attributes:
        gflops: of a forward pass of one example.
        weight_bytes: of its weights in float32.
    """

    gflops: float
    weight_bytes: int


@dataclass(frozen=True)
class Student:
    """A student.

    Attributes:
        steps: that it will take.
        passes: of an iteration.
    """

    steps: int
    passes: Passes


@dataclass(frozen=True)
class Distillation:
    """The cost of the stage ``distill`` on any hardware; FLOPs are multiply-adds.

    Attributes:
        form: the form of moment matching.
        iterations: of each student.
        batch: examples of a batch; an iteration takes two.
        accumulation: parts of a batch that are computed one after the other.
        model: the base model; a student is as large.
        negative_gflops: of an evaluation of the teacher's negative; 0 without guidance.
        state_bytes: all networks and moments, the teacher's and those of a worse model too.
        gradient_bytes: of all gradients at once.
        students: one for each entry of ``distill.steps``.
    """

    form: str
    iterations: int
    batch: int
    accumulation: int
    model: Model
    negative_gflops: float
    state_bytes: int
    gradient_bytes: int
    students: tuple[Student, ...]

    def forwards(self, passes: Passes) -> float:
        """An iteration in forward passes of the base model; a backward pass is two."""
        own = passes.plain + cost.FORWARDS_PER_TRAINING_STEP * passes.trained
        return own + passes.negative * self.negative_gflops / self.model.gflops

    def zettaflops(self, student: Student, recomputed: float = 0) -> float:
        """Of the whole training of a student.

        Args:
            student: which.
            recomputed: forward passes that each backward pass repeats, ``runtime.remat``.
        """
        forwards = self.forwards(student.passes) + recomputed * student.passes.trained
        return forwards * self.model.gflops * _GIGA * self.iterations * self.batch / _ZETTA


def price(
    settings: config.Distill,
    negatives: list[int | str],
    model: Model,
    trained_negative: Model | None,
    *,
    conditional: bool,
) -> Distillation | None:
    """The cost of ``distill``; None for a form that is not in :data:`FORMS`.

    Args:
        settings: the section ``distill``.
        negatives: ``guidance_search.negatives``.
        model: the base model.
        trained_negative: the model of ``train_negative``, if there is one.
        conditional: whether the model has conditions, and so an unconditional negative.
    """
    form = FORMS.get(settings.form.name)
    if form is None:
        return None
    adam = getattr(settings.form.settings, "preconditioner", None) == "adam"
    copies = form.copies + _OF_ADAM * adam
    usable = [
        _negative(one, model, trained_negative) for one in negatives if conditional or one != NULL
    ]
    return Distillation(
        form=settings.form.name,
        iterations=settings.iterations,
        batch=settings.batch_size,
        accumulation=settings.accumulation,
        model=model,
        negative_gflops=max((one.gflops for one in usable), default=0.0),
        state_bytes=(copies + 1) * model.weight_bytes
        + max((one.weight_bytes for one in usable), default=0),
        gradient_bytes=form.gradients * model.weight_bytes,
        students=tuple(Student(one, _passes(form, settings, one)) for one in settings.steps),
    )


def _passes(form: Form, settings: config.Distill, steps: int) -> Passes:
    """With states from roll-outs, each batch first takes the student's steps down to its times."""
    if settings.states == "data":
        return form.passes
    rolled_out = steps - 1 if settings.times == "grid" else steps
    return replace(form.passes, plain=form.passes.plain + 2 * rolled_out)


def _negative(one: int | str, model: Model, trained: Model | None) -> Model:
    """What a negative adds: an evaluation, and the weights of a model that is not the teacher.

    A model in a folder is taken to be as large as the base model.
    """
    if one == NULL:
        return Model(model.gflops, 0)
    return trained if one == TRAINED and trained is not None else model
