"""The sampling plan: which networks are evaluated at which step, and how many evaluations that is.

The grid of noise levels is known before sampling, so the plan decides on the host, in float64,
where guidance acts. Outside its interval the negative network is never evaluated.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sid2core.diffusion.guidance import NEVER, acts
from sid2core.diffusion.samplers.protocol import Sampler
from sid2core.diffusion.schedule import Schedule, step_times

__all__ = ["Run", "SamplingPlan"]


class Run(NamedTuple):
    """Steps start … stop - 1 of a plan: contiguous, with the same evaluations."""

    start: int
    stop: int
    guided: tuple[bool, ...]
    """For each evaluation within a step, whether guidance acts there."""


@dataclass(frozen=True)
class SamplingPlan:
    """A sampler on the uniform grid of ``steps`` times, t_start down to 0 (SiD2 supplement B.4).

    Hashable, so it can be a static argument of a compiled function. It does not contain the
    strength of guidance: one compilation serves all strengths.

    Attributes:
        sampler: a :class:`Sampler`.
        steps: number of steps.
        schedule: the noise schedule.
        interval: the open interval of log-SNR in which guidance acts, ``Guidance.interval``.
        t_start: time of the first step. Below 1 the caller usually provides a noised image to
            start from.
    """

    sampler: Sampler
    steps: int
    schedule: Schedule
    interval: tuple[float, float] = NEVER
    t_start: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a grid without steps and a sampler whose noise levels are unknown."""
        step_times(self.steps, self.t_start)
        if self.sampler.evaluations_per_step not in (1, 2):
            raise ValueError(
                f"{self.sampler}.evaluations_per_step is {self.sampler.evaluations_per_step}, "
                "expected 1 (at the start of a step) or 2 (at its start and its end)"
            )

    @property
    def logsnr(self) -> np.ndarray:
        """Log-SNR of the grid, [steps + 1], in float64: step i goes from entry i to i + 1."""
        return self.schedule.logsnr_exact(step_times(self.steps, self.t_start))

    @property
    def runs(self) -> list[Run]:
        """The steps as contiguous runs with the same evaluations.

        The first evaluation of a step is at the log-SNR of its start, the second at that of its
        end. The last step has one evaluation. Each is guided if the interval contains its own
        log-SNR.
        """
        guided = acts(self.interval, self.logsnr).tolist()
        count = self.sampler.evaluations_per_step
        patterns = [tuple(guided[step : step + count]) for step in range(self.steps - 1)]
        patterns.append((guided[self.steps - 1],))
        runs, start = [], 0
        for pattern, steps in itertools.groupby(patterns):
            stop = start + len(list(steps))
            runs.append(Run(start, stop, pattern))
            start = stop
        return runs

    @property
    def nfe(self) -> int:
        """Network evaluations per image: one per evaluation, two where guidance acts."""
        return sum((run.stop - run.start) * sum(1 + one for one in run.guided) for run in self.runs)
