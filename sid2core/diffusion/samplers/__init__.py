"""Samplers: from noise to images, one random key per image.

A sampler is a frozen dataclass in a module of its own that follows :class:`Sampler`. The plan says
which networks are evaluated at which step and counts the evaluations; the loop runs the steps.
"""

from sid2core.diffusion.samplers.addim import ADDIM
from sid2core.diffusion.samplers.ddim import DDIM
from sid2core.diffusion.samplers.ddpm import DDPM
from sid2core.diffusion.samplers.dpm_solver import DPMSolver
from sid2core.diffusion.samplers.heun import Heun
from sid2core.diffusion.samplers.loop import sample, sample_guided
from sid2core.diffusion.samplers.plan import Run, SamplingPlan
from sid2core.diffusion.samplers.posterior import Posterior
from sid2core.diffusion.samplers.protocol import Denoise, Keys, Sampler, State, Step

__all__ = [
    "ADDIM",
    "DDIM",
    "DDPM",
    "DPMSolver",
    "Denoise",
    "Heun",
    "Keys",
    "Posterior",
    "Run",
    "Sampler",
    "SamplingPlan",
    "State",
    "Step",
    "sample",
    "sample_guided",
]
