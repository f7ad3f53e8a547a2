"""What a form of moment matching is: the protocol that the trainer relies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import optax

from sid2core.data.load.loader import Batch
from sid2core.data.load.pixels import to_unit
from sid2core.distillation.states import Draws, States, Step
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.models.dropout import DropoutKey, PartKey
from sid2core.models.network import Parameters
from sid2core.training.accumulation import Scalars, mean_and_gradient
from sid2core.training.mesh import Layout
from sid2core.typing import Array, Scalar

State = Mapping[str, Any]
Critic = Any
"""What the student's loss needs to know of the student's images; a pytree."""
Loss = Callable[[Parameters, Step], Scalar]
"""(weights, the student's step) → a mean over examples."""


@runtime_checkable
class Form(Protocol):
    """Two objectives on two independent batches: of what judges the student, and of the student.

    Each iteration :meth:`judged` sees one batch of the student's images and returns a critic, and
    the student descends :meth:`student_loss` on another batch.
    """

    states: States
    teacher: Guided

    def initial(
        self,
        teacher: Parameters,
        kept: Mapping[str, Parameters],
        chain: optax.GradientTransformation,
    ) -> dict[str, Any]:
        """The form's part of the state before the first iteration.

        Args:
            teacher: the teacher's weights.
            kept: the networks of the student that this one starts from; empty if it is the teacher.
            chain: the optimiser of the section ``distill``.
        """
        ...

    def judged(
        self, state: State, teacher: Teacher, half: Half, chain: optax.GradientTransformation
    ) -> Judged:
        """The new state of the form, and the critic of the student."""
        ...

    def student_loss(self, critic: Critic, teacher: Teacher, step: Step) -> Scalar:
        """The student's objective, a mean over pixels and examples; differentiable in x~."""
        ...

    def kept(self, state: State) -> dict[str, Parameters]:
        """The networks that are written beside the student, by name."""
        ...


class Judged(NamedTuple):
    """What :meth:`Form.judged` returns."""

    state: dict[str, Any]
    """Of the form: the keys of :meth:`Form.initial`."""
    critic: Critic
    scalars: Scalars
    """``loss`` and norms, for the log."""


@dataclass(frozen=True, eq=False)
class Half:
    """One of the two batches of an iteration, computed in parts."""

    states: States
    batch: Batch
    draws: Draws
    dropout_key: Array
    student: Parameters
    """The student's weights."""
    parts: int
    layout: Layout

    def gradient(self, loss: Loss, weights: Parameters) -> tuple[Scalar, Parameters]:
        """``loss`` of other ``weights`` on the steps of the student, and its gradient in them."""

        def of_part(weights: Parameters, part: Any, index: Array) -> tuple[Scalar, Scalars]:
            return loss(weights, self._step(self.student, part, index)), {}

        return self._mean(of_part, weights)

    def student_gradient(self, loss: Callable[[Step], Scalar]) -> tuple[Scalar, Parameters]:
        """``loss`` of the student's steps, and its gradient in the student's weights."""

        def of_part(weights: Parameters, part: Any, index: Array) -> tuple[Scalar, Scalars]:
            return loss(self._step(weights, part, index)), {}

        return self._mean(of_part, self.student)

    def _mean(self, loss: Any, weights: Parameters) -> tuple[Scalar, Parameters]:
        whole = (*self.batch, self.draws)
        (value, _), gradient = mean_and_gradient(loss, weights, whole, self.parts, self.layout)
        return value, gradient

    def _step(self, student: Parameters, part: Any, index: Array) -> Step:
        images, condition, draws = part
        key: DropoutKey | None = None
        if self.states.dropout is not None:
            key = PartKey(self.dropout_key, index, self.parts)
        return self.states.stepped(student, to_unit(images), condition, draws, key)
