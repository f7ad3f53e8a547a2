"""One training loop for every run: base training, distillation, and what comes later.

Its order is a contract:

1. restore the newest whole checkpoint with its log, or start
2. take the next batch and step; at most two steps are under way on the device
3. every ``log_every`` steps: fetch the means since the last row, check that they are finite, log
4. every ``sample_every`` steps: let ``look`` see the state; at its steps: write a snapshot
5. every ``checkpoint_every`` steps or ``checkpoint_minutes``, when asked to stop, and at the end:
   flush the log, then checkpoint

A checkpoint holds the whole log up to its step, so a killed run's log has neither a gap nor a
repeated step, and a checkpoint may be written between two rows.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sid2core import config
from sid2core.pipeline import profile, progress
from sid2core.training import cluster, events, peak_flops, signals
from sid2core.training.checkpoints import Checkpoints
from sid2core.training.failures import (
    Stopped,
    TrainingError,
    before_the_rise,
    explained,
    first_line,
    kept,
)
from sid2core.training.log import Log, Row, peak_memory_mib
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.training.skip_nonfinite import SKIPPED
from sid2core.training.snapshots import Snapshots
from sid2core.typing import Array

__all__ = ["Run", "Stopped", "TrainingError", "fit"]

_SHOW_SECONDS = 10.0
_log = logging.getLogger(__name__)

Step = Callable[[Any, Any, int], tuple[Any, Mapping[str, Array]]]
"""(state, batch, index) → (state, scalars): one update; ``index`` counts from 0."""
Batches = Callable[[int], Generator[Any, None, None]]
"""index → the batches of all steps from that one on; the loop closes it."""


@dataclass(frozen=True)
class Run:
    """What a training run is: its length, its state, its data, its step.

    Attributes:
        name: shown beside the progress bar.
        steps: number of updates.
        init: makes the first state, a pytree of arrays.
        batches: what steps are given, in order; a function of the index of the first.
        step: one update; deterministic in (state, batch, index).
        images_per_step: for the rate.
        cure: what to change when the loss is no longer finite.
        layout: on which devices the state lies.
        gflops_step: multiply-adds of a step, in 10⁹; None where they are not counted.
        dtype: what the step multiplies in, for its utilisation.
        export: writes the weights of a state to a folder that ``train.init_from`` accepts.
    """

    name: str
    steps: int
    init: Callable[[], Any]
    batches: Batches
    step: Step
    images_per_step: int
    cure: str
    layout: Layout = ONE_DEVICE
    gflops_step: float | None = None
    dtype: str = "float32"
    export: Callable[[Path, Any], None] | None = None


def fit(
    run: Run,
    folder: Path,
    runtime: config.Runtime,
    *,
    show: Callable[[Log], None] = lambda log: None,
    look: Callable[[int, Any], None] = lambda step, state: None,
    snapshots: Snapshots | None = None,
) -> tuple[Any, Log]:
    """Train to the end, from the step at which an earlier run in ``folder`` stopped.

    Args:
        run: what to train.
        folder: where checkpoints and the log lie.
        runtime: how often to log, checkpoint and look, and what to keep.
        show: given the log every few seconds, for others to see how it goes.
        look: given the step and the state every ``runtime.sample_every`` steps, not to be changed.
        snapshots: weights of chosen steps to keep.

    Returns:
        The final state, on the device, and the whole log.

    Raises:
        TrainingError: too many updates in a row were not finite, or memory or disk ran out.
        Stopped: SIGTERM, SIGINT or SIGHUP came.
    """
    before = None if snapshots is None else snapshots.missing_from()
    checkpoints = Checkpoints(folder / "checkpoints", runtime, before)
    with (
        explained(run.name, folder, checkpoints.newest),
        signals.on_signals(run.name) as request,
        closing(checkpoints),
    ):
        start, state, log = _resume(run, checkpoints)
        watch = _Watch(run, runtime)
        with (
            closing(run.batches(start)) as batches,
            progress.bar(run.steps, run.name, "step", initial=start, shown=cluster.first()) as bar,
            events.opened(folder, log, active=cluster.first()) as write_events,
            profile.of_steps(run.step, _traced(run, runtime, start), folder, run.name) as run_step,
        ):
            for index in range(start, run.steps):
                batch = watch.next(batches, state)
                state, scalars = run_step(state, batch, index)
                # Else all steps of a row would hold their batches on the device.
                jax.block_until_ready(log.pending[-1:])
                log.pending.append(scalars)
                done, last = index + 1, index + 1 == run.steps
                bar.update()
                at_row = done % runtime.log_every == 0 or last
                if at_row:
                    wrong = _check(run, log.fetch(), done, runtime.max_skipped)
                    if wrong:
                        advice = _advice(run, log, checkpoints, folder)
                        raise TrainingError(f"{wrong}. {advice}; {run.cure}")
                    row = log.close_row(done, watch.rates())
                    bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
                    if watch.shows() and cluster.first():
                        show(log)
                        write_events()
                if runtime.sample_every and done % runtime.sample_every == 0:
                    with watch.paused(state):
                        look(done, state)
                if snapshots is not None and done in snapshots.steps:
                    with watch.paused(state):
                        snapshots(done, state)
                stop, due = watch.agreed(request.by is not None, at_row)
                if due or stop or last or done % runtime.checkpoint_every == 0:
                    if cluster.first():
                        log.flush(folder)
                    checkpoints.save(done, state, log.saved())
                    watch.saved()
                if stop and not last:
                    raise _stopped(run, request.by, done)
    return state, log


class _Watch:
    """The clocks of a run: rates since the last row, and when something is due again."""

    def __init__(self, run: Run, runtime: config.Runtime):
        self._run, self._minutes = run, runtime.checkpoint_minutes
        self._ideal = None  # seconds of a step that kept the devices busy with products alone
        if run.gflops_step is not None:
            self._ideal = run.gflops_step / peak_flops.gflops_per_second(
                run.dtype, run.layout.devices
            )
        self._since = self._shown = self._saved = time.perf_counter()
        self._waited, self._taken = 0.0, 0

    def next(self, batches: Iterator[Any], state: Any) -> Any:
        """The next batch; notes for how many seconds at most the device stood still for it.

        It did not if the step before was still being computed when the batch came.
        """
        since = time.perf_counter()
        batch = next(batches)
        if jax.tree.leaves(state)[0].is_ready():
            self._waited += time.perf_counter() - since
        self._taken += 1
        return batch

    def rates(self) -> Row:
        """What ``speed.csv`` says of the steps since this was last asked."""
        now = time.perf_counter()
        seconds, images = now - self._since, self._run.images_per_step * self._taken
        rates: Row = {
            "images_per_second": round(images / seconds, 1),
            "data_wait_share": round(self._waited / seconds, 5),
            "peak_memory_mib": peak_memory_mib(),
        }
        if self._ideal is not None:
            rates["utilisation"] = round(self._ideal * self._taken / seconds, 4)
        self._since, self._waited, self._taken = now, 0.0, 0
        return rates

    @contextmanager
    def paused(self, state: Any) -> Iterator[None]:
        """The body's time is not of the steps, which are waited for before it."""
        jax.block_until_ready(state)
        since = time.perf_counter()
        yield
        self._since += time.perf_counter() - since

    def shows(self) -> bool:
        """Whether others have not been shown the log for some seconds."""
        now = time.perf_counter()
        due = now - self._shown > _SHOW_SECONDS
        self._shown = now if due else self._shown
        return due

    def agreed(self, stop: bool, at_row: bool) -> tuple[bool, bool]:
        """Whether to stop and whether a checkpoint is due by the clock, the same in all processes.

        Clocks differ and signals do not come at once, and a checkpoint is written by all together.
        So all do what any of them was asked to do, and ask one another at rows of the log.
        """
        seconds = time.perf_counter() - self._saved
        due = self._minutes is not None and seconds > 60 * self._minutes
        if jax.process_count() > 1:
            wishes = np.array([stop, due])
            stop, due = (
                multihost_utils.process_allgather(wishes).any(0) if at_row else (False, False)
            )
        return bool(stop), bool(due)

    def saved(self) -> None:
        """A checkpoint was written."""
        self._saved = time.perf_counter()


def _resume(run: Run, checkpoints: Checkpoints) -> tuple[int, Any, Log]:
    newest = checkpoints.newest()
    if newest is None:
        _log.info("%s starts at step 0 of %d", run.name, run.steps)
        return 0, run.init(), Log()
    _log.info("%s resumes from step %d of %d", run.name, newest, run.steps)
    try:
        state, log = checkpoints.restore(newest, run.layout.abstract(run.init))
    except (ValueError, KeyError) as error:  # its bytes are those that were written
        msg = (
            f"{run.name}: the checkpoint of step {newest} does not fit this code "
            f"({first_line(error)}): set SID2_FRESH=1 to start again from the beginning"
        )
        raise TrainingError(msg) from error
    return newest, state, Log(**log)


def _traced(run: Run, runtime: config.Runtime, start: int) -> tuple[int, int] | None:
    """The steps of a run from ``start`` on that this process traces; None for none."""
    if runtime.profile is None or not cluster.first():
        return None
    first, stop = runtime.profile
    if start < stop <= run.steps:
        return first, stop
    _log.warning(
        "%s is not traced: it has the steps %d to %d, and runtime.profile is [%d, %d]",
        *(run.name, start, run.steps, first, stop),
    )
    return None


def _check(run: Run, steps: list[dict[str, Any]], done: int, most: int) -> str | None:
    """Report skipped updates among the ``steps`` that end at ``done``.

    Returns:
        Why the run must stop: ``most`` of them in a row, or one in a run that skips none.
    """
    for number, one in enumerate(steps, done - len(steps) + 1):
        wrong = not all(map(math.isfinite, one.values()))
        in_row = one.get(SKIPPED)
        if wrong and (in_row is None or in_row >= most):
            many = "" if in_row is None else f", as are {in_row} in a row (runtime.max_skipped)"
            values = ", ".join(f"{name} {one[name]:.4g}" for name in one if name != SKIPPED)
            return f"{run.name}: step {number} is not finite{many}: {values}"
    skipped = sum(one.get(SKIPPED, 0) > 0 for one in steps)
    if skipped:
        _log.warning(
            "%s: %d of the last %d updates, up to step %d, were not finite and skipped "
            "(%d in a row stop the run: runtime.max_skipped)",
            *(run.name, skipped, len(steps), done, most),
        )
    return None


def _advice(run: Run, log: Log, checkpoints: Checkpoints, folder: Path) -> str:
    """Where to continue from after updates that were not finite; exports the weights of there."""
    calm, steps = log.calm_until(), checkpoints.steps()
    if not steps:
        return kept(None)
    calm_steps = [one for one in reversed(steps) if one <= calm]
    step = next((one for one in calm_steps if checkpoints.whole(one)), None)
    if step is None or run.export is None:
        return before_the_rise(calm, step, None)
    weights = folder / f"weights-{step}"
    run.export(weights, checkpoints.restore(step, run.layout.abstract(run.init))[0])
    return before_the_rise(calm, step, weights)


def _stopped(run: Run, by: str | None, done: int) -> Stopped:
    return Stopped(
        f"{run.name}: stopped by {by or 'another process'} after step {done} of {run.steps}; its "
        "checkpoint is written, and the same command goes on from there"
    )
