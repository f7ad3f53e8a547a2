"""The guided teacher of moment matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sid2core.diffusion.guidance import Guidance, guided_x
from sid2core.distillation.states import Step
from sid2core.inference import negatives
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.negatives import WorseModel
from sid2core.models.network import Parameters
from sid2core.typing import Samples


class Teacher(NamedTuple):
    """The weights of the teacher, and those of the worse model of its autoguidance, if it has."""

    params: Parameters
    worse: Parameters | None = None


@dataclass(frozen=True)
class Guided:
    """The guided teacher g_theta; guidance is evaluated at each example's own log-SNR.

    It is guided in every term of an objective, so that the student needs one evaluation a step
    (SiD2 Table 5: 16 steps cost 16 forward passes).

    Attributes:
        denoiser: architecture and prediction of the teacher, the student and an auxiliary network.
        guidance: as ``guidance_search`` found it.
        worse: the negative of autoguidance.
    """

    denoiser: Denoiser
    guidance: Guidance
    worse: Denoiser | None = None

    def __post_init__(self) -> None:
        """Refuse guidance whose negative is missing."""
        spec, worse = self.denoiser.network.config.condition, self.worse
        negatives.check(self.guidance, spec, None if worse is None else WorseModel(worse, {}))

    def __call__(self, teacher: Teacher, step: Step) -> Samples:
        """x_hat at z_s."""
        return self.pushed(self.plain(teacher.params, step), teacher, step)

    def plain(self, params: Parameters, step: Step) -> Samples:
        """x_hat of one network at z_s with the examples' condition, without guidance."""
        return self.denoiser(params, step.z_s, step.logsnr_s, step.condition)

    def pushed(self, x_cond: Samples, teacher: Teacher, step: Step) -> Samples:
        """``(1 + g) x_cond − g x_neg`` where guidance acts.

        The negative is a call of its own: to concatenate the two would move rows of a batch that
        devices share.
        """
        if self.guidance.weight == 0.0:
            return x_cond
        z, logsnr = step.z_s, step.logsnr_s
        if self.worse is not None and teacher.worse is not None:
            x_neg = self.worse(teacher.worse, z, logsnr, step.condition)
        else:
            null = self.denoiser.network.config.condition.null(len(z))
            x_neg = self.denoiser(teacher.params, z, logsnr, null)
        return guided_x(self.guidance, x_cond, x_neg, logsnr)
