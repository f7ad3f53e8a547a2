"""Runs what is missing of a study through DVC's queue, until all of it is finished."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from filelock import FileLock, Timeout
from tqdm import tqdm

from sid2core import config
from sid2core.config import yaml_edit
from sid2core.pipeline import places, running
from sid2core.studies import planning
from sid2core.studies.errors import StudyError
from sid2core.studies.planning import State
from sid2core.studies.runs import Run

POLL_SECONDS = 5.0
START_SECONDS = (20.0, 60.0)
"""Time between two attempts to start workers, where none lives and where some do: a worker that has
just been started is not known yet, and would be started twice."""
_SAY_SECONDS = 60.0
_REFUSED = 10
"""How often in a row DVC may refuse to queue a run."""

_print = functools.partial(print, flush=True)


@runtime_checkable
class Tasks(Protocol):
    """A queue of runs; :class:`sid2core.studies.queue.Queue` is DVC's."""

    def state(self) -> State | None:
        """What is finished, waiting and active; None where it cannot be read just now."""

    def failed(self, names: Iterable[str]) -> dict[str, str]:
        """The failed ones of these → why."""

    def put(self, run: Run, params: Mapping[str, Any]) -> None:
        """Add a run that changes these parameters."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove what is left of these."""

    def start(self, jobs: int) -> None:
        """Start workers until there are ``jobs``."""

    def workers(self) -> int:
        """How many workers live."""


@dataclass
class _Progress:
    """What `run` has seen so far."""

    attempts: Counter[str] = field(default_factory=Counter)
    began: dict[str, float] = field(default_factory=dict)
    durations: list[float] = field(default_factory=list)
    started: float = -math.inf
    refused: int = 0
    said: tuple[float, str] = (-math.inf, "")


def run(
    name: str, runs: Sequence[Run], jobs: int, queue: Tasks, say: Callable[[str], None] = _print
) -> None:
    """Queue and watch the runs until all are finished; nothing is started if they are.

    Whatever ends (this process, a worker, a stage, DVC), the same command continues: what counts
    is which experiments are finished, and which have a living process.

    Args:
        name: the study's name.
        runs: all runs of the study.
        jobs: how many run at a time.
        queue: DVC's queue.
        say: prints a line.

    Raises:
        StudyError: another process runs this study, or a run failed ``planning.ATTEMPTS`` times.
    """
    lock = places.work() / "studies" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock).acquire(timeout=0):
            _watch(runs, jobs, queue, say)
    except Timeout:
        msg = f"another process runs the study {name} (its lock is {lock}); wait for it"
        raise StudyError(msg) from None


def _watch(runs: Sequence[Run], jobs: int, queue: Tasks, say: Callable[[str], None]) -> None:
    progress = _Progress()
    own = {run.name for run in runs}
    while True:
        state = queue.state()
        if state is not None:
            _note(runs, state, progress)
            _say(runs, state, jobs, progress, say)
            if own <= state.finished:
                return
            _queue(runs, state, queue, progress, say)
            _start(own, jobs, queue, progress)
        time.sleep(POLL_SECONDS)


def _queue(
    runs: Sequence[Run],
    state: State,
    queue: Tasks,
    progress: _Progress,
    say: Callable[[str], None],
) -> None:
    """Queue what can start; a run that failed or disappeared is queued again."""
    chosen = planning.startable(runs, state)
    failed = queue.failed([run.name for run in chosen])
    for one, reason in failed.items():
        if progress.attempts[one]:
            say(f"{one} failed: {reason}")
        if progress.attempts[one] >= planning.ATTEMPTS:
            msg = f"{one} failed {planning.ATTEMPTS} times; `dvc queue logs {one}` shows why"
            raise StudyError(msg)
    for run in chosen:
        if progress.attempts[run.name] and run.name not in failed:
            say(f"{run.name} is no longer in DVC's queue; it is queued again")
        queue.remove([run.name])
        params = yaml_edit.load(config.PARAMS_FILE.read_text(encoding="utf-8"))
        try:
            queue.put(run, params)
        except StudyError as error:  # perhaps a worker has DVC's lock just now
            progress.refused += 1
            if progress.refused >= _REFUSED:
                raise
            say(f"{run.name}: {error}; trying again")
            return
        progress.refused = 0
        progress.attempts[run.name] += 1


def _start(own: set[str], jobs: int, queue: Tasks, progress: _Progress) -> None:
    """Start workers where some are missing."""
    state = queue.state()
    if state is None or not own & state.waiting:
        return
    alive = queue.workers()
    if alive < jobs and time.monotonic() - progress.started >= START_SECONDS[alive > 0]:
        queue.start(jobs)
        progress.started = time.monotonic()


def _note(runs: Sequence[Run], state: State, progress: _Progress) -> None:
    """Remember when runs began, and how long finished ones took."""
    for run in runs:
        if run.name in state.active:
            progress.began.setdefault(run.name, time.monotonic())
        elif run.name in state.finished and run.name in progress.began:
            progress.durations.append(time.monotonic() - progress.began.pop(run.name))


def _say(
    runs: Sequence[Run],
    state: State,
    jobs: int,
    progress: _Progress,
    say: Callable[[str], None],
) -> None:
    """One line where something changed, else once a minute."""
    done = sum(run.name in state.finished for run in runs)
    active = [run for run in runs if run.name in state.active]
    text = f"{done} of {len(runs)} runs are finished"
    now = text + "".join(f"{run.name} {state.active[run.name]}" for run in active)
    before, said = progress.said
    if now == said and time.monotonic() - before < _SAY_SECONDS:
        return
    progress.said = time.monotonic(), now
    shares = {one.experiment: one.done / max(one.total, 1) for one in running.listed()}
    stages = [
        f"{run.variant} s{run.seed} ({state.active[run.name] or 'between stages'}"
        f"{f' {shares[run.name]:.0%}' if run.name in shares else ''})"
        for run in active
    ]
    text += f"; running: {', '.join(stages)}" if stages else ""
    left = planning.seconds_left(progress.durations, len(runs) - done, jobs)
    if left:
        text += f"; about {tqdm.format_interval(math.ceil(left))} left"
    say(text)
