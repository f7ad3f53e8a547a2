"""Moment matching in its alternating form (arXiv 2406.04103).

An auxiliary network g_phi keeps estimating the mean of the student's images given a noisier
version. Student and auxiliary are updated in turn:

    auxiliary:  min over phi  w(s) ( ‖x~ − g_phi(z_s)‖² + ‖g_theta(z_s) − g_phi(z_s)‖² )
    student:    min over eta  w(s) x~ᵀ stopgrad( g_phi(z_s) − g_theta(z_s) )
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sid2core.distillation.objectives import Objectives
from sid2core.distillation.protocol import Half, Judged, State
from sid2core.distillation.states import Step
from sid2core.distillation.teacher import Teacher
from sid2core.models.network import Parameters
from sid2core.typing import Scalar


@dataclass(frozen=True)
class Alternating(Objectives):
    """The objectives of the auxiliary network and of the student."""

    def auxiliary_loss(self, auxiliary: Parameters, teacher: Teacher, step: Step) -> Scalar:
        """w(s) ( ‖x~ − g_phi‖² + ‖g_theta − g_phi‖² ), a mean over pixels and examples."""
        mean = self.teacher.plain(auxiliary, step)
        target = self.teacher(teacher, step)
        return self.mean(jnp.square(step.x_tilde - mean) + jnp.square(target - mean), step)

    def student_loss(self, critic: Parameters, teacher: Teacher, step: Step) -> Scalar:
        """w(s) x~ᵀ stopgrad(g_phi − g_theta), a mean over pixels and examples.

        The critic is the auxiliary network.
        """
        mean = self.teacher.plain(critic, step)
        direction = jax.lax.stop_gradient(mean - self.teacher(teacher, step))
        return self.mean(step.x_tilde * direction, step)

    def initial(
        self,
        teacher: Parameters,
        kept: Mapping[str, Parameters],
        chain: optax.GradientTransformation,
    ) -> dict[str, Any]:
        """The auxiliary network starts from the teacher, or from that of an earlier student."""
        start = kept.get("auxiliary", teacher)
        return {
            "auxiliary": jax.tree.map(jnp.copy, start),
            "optimiser_auxiliary": chain.init(start),
        }

    def judged(
        self, state: State, teacher: Teacher, half: Half, chain: optax.GradientTransformation
    ) -> Judged:
        """One update of the auxiliary network, which is the critic."""

        def loss(weights: Parameters, step: Step) -> Scalar:
            return self.auxiliary_loss(weights, teacher, step)

        before = state["auxiliary"]
        value, gradient = half.gradient(loss, before)
        change, moments = chain.update(gradient, state["optimiser_auxiliary"], before)
        auxiliary = optax.apply_updates(before, change)
        trees = {"grad": gradient, "param": auxiliary, "update": change}
        norms = {f"{name}_norm_auxiliary": optax.tree.norm(tree) for name, tree in trees.items()}
        return Judged(
            {"auxiliary": auxiliary, "optimiser_auxiliary": moments},
            auxiliary,
            {"loss": value} | norms,
        )

    def kept(self, state: State) -> dict[str, Parameters]:
        """The auxiliary network: later fine-tuning can be anchored to it."""
        return {"auxiliary": state["auxiliary"]}
