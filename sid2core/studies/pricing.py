"""What a study's missing runs cost, before they start, by the formulas of ``sid2 plan``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config import build
from sid2core.models import cost
from sid2core.plan import distillation
from sid2core.report import formatting
from sid2core.studies.runs import Run

_PASSES = {"base": 1, "constant": 2, "searched": 2}
"""Network evaluations of a step, of the samplers that `evaluate` draws from the base model."""


@dataclass(frozen=True)
class Cost:
    """Multiply-adds, by what computes them; each distinct work counts once.

    Attributes:
        trainings: how many distinct trainings.
        training: all of these.
        search: of guidance, at most.
        distillation: the students.
        drawing: what `evaluate` draws.
    """

    trainings: int
    training: float
    search: float
    distillation: float
    drawing: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.training + self.search + self.distillation + self.drawing


def price(
    runs: Sequence[Run],
    done: Sequence[Run],
    describe: Callable[[config.Params], tuple[tuple[int, ...], ConditionSpec]],
) -> Cost:
    """The cost of ``runs``, without what ``done`` runs have computed.

    Args:
        runs: what is missing.
        done: what is finished.
        describe: the shape of an example and its condition, by the parameters.
    """
    made = {digest for run in done for digest in run.stages.values()}
    sums = dict.fromkeys(_COSTS, 0.0)
    trainings = 0
    for run in runs:
        todo = [stage for stage in _COSTS if run.stages.get(stage, "") not in {"", *made}]
        if not todo:
            continue
        shape, condition = describe(run.params)
        forward = 1e9 * cost.forward_gflops(build.network(run.params.model, shape, condition))
        for stage in todo:
            made.add(run.stages[stage])
            sums[stage] += _COSTS[stage](run.params, forward)
        trainings += "train" in todo
    return Cost(trainings, *sums.values())


def _training(params: config.Params, forward: float) -> float:
    examples = params.train.steps * params.train.batch_size
    return cost.FORWARDS_PER_TRAINING_STEP * forward * examples


def _search(params: config.Params, forward: float) -> float:
    """Every setting with all its samples; a race draws fewer."""
    search, steps = params.guidance_search, params.sampling.steps
    settings = 1 + len(search.weights) * (1 + len(search.intervals)) * len(search.negatives)
    return 2 * forward * settings * search.samples * steps


def _distillation(params: config.Params, forward: float) -> float:
    """The students; nothing for a form whose cost is not known."""
    negatives = params.guidance_search.negatives
    model = distillation.Model(forward / 1e9, 0)
    made = distillation.price(params.distill, negatives, model, model, conditional=True)
    return 0.0 if made is None else sum(1e21 * made.zettaflops(one) for one in made.students)


def _drawing(params: config.Params, forward: float) -> float:
    """The base model's samplers, the students, and each snapshot without and with guidance."""
    steps = params.sampling.steps
    evaluations = sum(_PASSES.values()) * steps + sum(params.distill.steps)
    evaluations += 3 * steps * len(params.train.snapshots or ())
    return forward * evaluations * params.eval.samples


_COSTS: Mapping[str, Callable[[config.Params, float], float]] = {
    "train": _training,
    "guidance_search": _search,
    "distill": _distillation,
    "evaluate": _drawing,
}


def lines(cost: Cost, rate: float, machine: str, jobs: int) -> Iterator[str]:
    """The cost in FLOPs, and the time at a rate of multiply-adds a second."""
    for name, value in (
        (f"training ({cost.trainings} times)", cost.training),
        ("guidance search, at most", cost.search),
        ("distillation", cost.distillation),
        ("drawing images to measure", cost.drawing),
        ("together", cost.total),
    ):
        yield f"  {name}: {formatting.flops(value / 1e9)}, {_time(value / rate / jobs)}"
    yield f"  at {formatting.flops(rate / 1e9)} a second on {machine}, {jobs} at a time;"
    yield "  preparing data, training the extractor and compiling come on top"


def _time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
