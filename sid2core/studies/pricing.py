"""What a study's missing runs cost, before they start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.plan import plan
from sid2core.plan.plan import Price
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
    sums = dict.fromkeys(("train", "guidance_search", "distill", "evaluate"), 0.0)
    trainings = 0
    prices: dict[str, Price] = {}
    for run in runs:
        for stage in sums.keys() & run.stages.keys():
            if run.stages[stage] not in made:
                made.add(run.stages[stage])
                one = prices.setdefault(run.variant, _price(run, describe))
                sums[stage] += _COSTS[stage](run.params, one)
                trainings += stage == "train"
    return Cost(trainings, *sums.values())


def _price(run: Run, describe: Callable[..., tuple[tuple[int, ...], ConditionSpec]]) -> Price:
    shape, condition = describe(run.params)
    return plan.price(run.params, shape, condition, "xla")


def _training(params: config.Params, one: Price) -> float:
    return 3e9 * one.gflops * params.train.steps * params.train.batch_size


def _search(params: config.Params, one: Price) -> float:
    """Every setting with all its samples; a race draws fewer."""
    search, steps = params.guidance_search, params.sampling.steps
    settings = 1 + len(search.weights) * (1 + len(search.intervals)) * len(search.negatives)
    return 2e9 * one.gflops * settings * search.samples * steps


def _distillation(params: config.Params, one: Price) -> float:
    made = one.distillation
    if made is None:
        return 0.0
    return sum(made.zettaflops(student, 0) for student in made.students) * 1e21 / 2


def _drawing(params: config.Params, one: Price) -> float:
    """The base model's samplers, the students, and each snapshot without and with guidance."""
    steps = params.sampling.steps
    evaluations = sum(_PASSES.values()) * steps + sum(params.distill.steps)
    evaluations += 3 * steps * len(params.train.snapshots or ())
    return 1e9 * one.gflops * evaluations * params.eval.samples


_COSTS: Mapping[str, Callable[[config.Params, Price], float]] = {
    "train": _training,
    "guidance_search": _search,
    "distill": _distillation,
    "evaluate": _drawing,
}


def lines(cost: Cost, rate: float, machine: str, jobs: int) -> Iterator[str]:
    """The cost in FLOPs, and the time at a rate of multiply-adds a second."""
    from sid2core.report import formatting

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
