"""What the objectives of all forms of moment matching share: where they are, and their weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from sid2core.diffusion import parametrisation
from sid2core.distillation.states import States, Step
from sid2core.distillation.teacher import Guided
from sid2core.typing import Samples, Scalar


@dataclass(frozen=True)
class Objectives:
    """The objectives of a form; the teacher's parameters are fixed inputs.

    Attributes:
        states: where they are evaluated.
        teacher: g_theta.
        max_weight: the cap of w(s).
        weighting: makes an error in x one in ``v`` or ``eps``, or leaves it one in ``x``.
    """

    states: States
    teacher: Guided
    max_weight: float
    weighting: Literal["v", "eps", "x"] = "v"

    def mean(self, values: Samples, step: Step) -> Scalar:
        """``mean of w(s) values`` over pixels and examples, with ``w = min(w0, max_weight)``.

        w0 is 1 + SNR for an error in v, SNR for one in eps, 1 for one in x. The cap keeps the
        nearly clean images from outweighing all others.
        """
        snr = jnp.exp(step.logsnr_s)
        w0 = {"v": 1.0 + snr, "eps": snr, "x": jnp.ones_like(snr)}[self.weighting]
        weight = jnp.minimum(w0, self.max_weight)
        return jnp.mean(parametrisation.per_example(weight, values) * values)
