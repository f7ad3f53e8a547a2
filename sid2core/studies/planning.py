"""Which runs of a study are queued next: pure functions of what DVC reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sid2core.studies.runs import Run

ATTEMPTS = 3
"""How often a run is tried before `run` gives up: a stage that was killed counts as failed."""


@dataclass(frozen=True)
class State:
    """What DVC reports, by names of experiments.

    Attributes:
        finished: that have a reference in Git.
        waiting: in the queue.
        active: that a living process works on → the stage that it runs; empty where unknown.
    """

    finished: frozenset[str]
    waiting: frozenset[str]
    active: Mapping[str, str]


def missing(runs: Sequence[Run], state: State) -> list[Run]:
    """The runs that are neither finished, nor waiting, nor active."""
    known = state.finished | state.waiting | state.active.keys()
    return [run for run in runs if run.name not in known]


def startable(runs: Sequence[Run], state: State) -> list[Run]:
    """The missing runs that can be queued now.

    Two runs with the same parameters of a stage share its work. If both computed it at once, the
    second would be refused, since the first has the lock of the work folder. So a run is held back
    while another one in flight may still compute a stage that both need.
    """
    in_flight = [run for run in runs if run.name in state.waiting or run.name in state.active]
    made = _made(runs, state)
    chosen: list[Run] = []
    for run in missing(runs, state):
        needed = set(run.stages.values()) - made
        if not any(needed & set(other.stages.values()) for other in [*in_flight, *chosen]):
            chosen.append(run)
    return chosen


def _made(runs: Iterable[Run], state: State) -> set[str]:
    """Digests of stages whose results are in DVC's cache."""
    made: set[str] = set()
    for run in runs:
        if run.name in state.finished:
            made |= set(run.stages.values())
        else:
            earlier = run.before.get(state.active.get(run.name, ""), ())
            made |= {run.stages[name] for name in earlier}
    return made


def seconds_left(durations: Sequence[float], left: int, jobs: int) -> float | None:
    """Time until ``left`` runs have ended, ``jobs`` at a time; None before the first has ended."""
    if not durations:
        return None
    return math.ceil(left / jobs) * sum(durations) / len(durations)
