"""Moment matching in parameter space (arXiv 2406.04103): no auxiliary network.

If the student's images had the teacher's conditional means, the teacher's own loss on them could
not be lowered. Where it can be, its gradient says how. On one batch

    nu = −P grad_theta mean w(s) ‖g_theta(z_s) − x~‖²

and on an independent one x~ moves against the change that nu makes to the teacher's estimate:

    student:  min over eta  w(s) x~ᵀ stopgrad( J nu ),  J nu = d/dh g_(theta + h nu)(z_s) at h = 0

J nu takes the place of g_phi − g_theta in the alternating form: that of an auxiliary network after
one step from the teacher. In expectation the student descends ‖grad_theta‖² in the metric P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from sid2core.distillation.objectives import Objectives
from sid2core.distillation.protocol import Half, Judged, State
from sid2core.distillation.states import Step
from sid2core.distillation.teacher import Teacher
from sid2core.models.network import Parameters
from sid2core.typing import Samples, Scalar


@dataclass(frozen=True)
class ParameterSpace(Objectives):
    """The objectives of the teacher's parameters and of the student.

    Attributes:
        preconditioner: P is the ``identity``, or 1 / (sqrt(v) + eps) with Adam's running mean v of
            squared gradients (``adam``), its start corrected.
        adam_b2: the decay of v.
        adam_eps: the floor of the square root.
    """

    preconditioner: Literal["identity", "adam"] = "adam"
    adam_b2: float = 0.99
    adam_eps: float = 1e-12

    @property
    def scaled(self) -> optax.GradientTransformation:
        """The multiplication by P."""
        if self.preconditioner == "identity":
            return optax.identity()
        return optax.scale_by_rms(
            self.adam_b2, self.adam_eps, eps_in_sqrt=False, bias_correction=True
        )

    def teacher_loss(self, params: Parameters, teacher: Teacher, step: Step) -> Scalar:
        """w(s) ‖g_theta − x~‖², a mean over pixels and examples, to be differentiated in theta.

        A guided teacher errs by its guided estimate; theta moves the conditional network alone, as
        an auxiliary network would be moved.
        """
        x_cond = self.teacher.plain(params, step)
        push = jax.lax.stop_gradient(self.teacher.pushed(x_cond, teacher, step) - x_cond)
        return self.mean(jnp.square(x_cond + push - step.x_tilde), step)

    def student_loss(self, critic: Parameters, teacher: Teacher, step: Step) -> Scalar:
        """w(s) x~ᵀ stopgrad(J nu), a mean over pixels and examples; the critic is nu."""

        def estimate(params: Parameters) -> Samples:
            return self.teacher.plain(params, step)

        _, change = jax.jvp(estimate, (teacher.params,), (critic,))
        return self.mean(step.x_tilde * jax.lax.stop_gradient(change), step)

    def initial(
        self,
        teacher: Parameters,
        kept: Mapping[str, Parameters],
        chain: optax.GradientTransformation,
    ) -> dict[str, Any]:
        """The second moments of Adam; nothing comes from an earlier student."""
        return {"preconditioner": self.scaled.init(teacher)}

    def judged(
        self, state: State, teacher: Teacher, half: Half, chain: optax.GradientTransformation
    ) -> Judged:
        """The direction nu."""

        def loss(params: Parameters, step: Step) -> Scalar:
            return self.teacher_loss(params, teacher, step)

        value, gradient = half.gradient(loss, teacher.params)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            scaled, moments = self.scaled.update(gradient, state["preconditioner"])
        nu = jax.tree.map(jnp.negative, scaled)
        norms = {"grad_norm_teacher": optax.tree.norm(gradient)}
        return Judged({"preconditioner": moments}, nu, {"loss": value} | norms)

    def kept(self, state: State) -> dict[str, Parameters]:
        """No network but the student."""
        return {}
