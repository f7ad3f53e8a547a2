"""One training loop for every run: base training, distillation, and what comes later.

Its order is a contract:

1. restore the newest checkpoint, or start; cut the log back to its step
2. take the next batch and step; at most two steps are under way on the device
3. every ``log_every`` steps: fetch the means since the last row, check that they are finite, log
4. every ``checkpoint_every`` steps, and at the end: checkpoint, then flush the log

The log is cut, not appended, so a killed run's log has neither a gap nor a repeated step.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from sid2core import config, progress
from sid2core.errors import Sid2Error
from sid2core.training import cluster
from sid2core.training.checkpoints import Checkpoints
from sid2core.training.mesh import ONE_DEVICE, Layout
from sid2core.typing import Scalar

_log = logging.getLogger(__name__)


class TrainingError(Sid2Error):
    """Training cannot go on."""


Step = Callable[[Any, Any, int], tuple[Any, Mapping[str, Scalar]]]
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
    """

    name: str
    steps: int
    init: Callable[[], Any]
    batches: Batches
    step: Step
    images_per_step: int
    cure: str
    layout: Layout = ONE_DEVICE


@dataclass
class Log:
    """Rows of scalars, and the rate at which they came, apart: the rate is never reproducible."""

    rows: list[dict[Hashable, Any]] = field(default_factory=list)
    speed: list[dict[Hashable, Any]] = field(default_factory=list)

    def flush(self, folder: Path) -> None:
        """Write both tables, each replaced whole."""
        for name, table in (("curve.csv", self.rows), ("speed.csv", self.speed)):
            temporary = folder / f".{name}.tmp"
            pd.DataFrame(table).to_csv(temporary, index=False)
            temporary.replace(folder / name)

    @classmethod
    def read(cls, folder: Path, step: int) -> Log:
        """What was logged up to ``step``."""
        # Seven digits (see _means) come back to the last bit by pandas's default parser.
        tables = [pd.read_csv(folder / name) for name in ("curve.csv", "speed.csv")]
        rows, speed = (table[table["step"] <= step].to_dict("records") for table in tables)
        return cls(rows, speed)


def fit(run: Run, folder: Path, runtime: config.Runtime) -> tuple[Any, Log]:
    """Train to the end, from wherever an earlier run in ``folder`` stopped.

    Returns:
        The final state, on the device, and the whole log.

    Raises:
        TrainingError: the loss or a gradient norm is no longer finite.
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    start, state, log = _resume(run, checkpoints, folder)
    pending: list[Mapping[str, Scalar]] = []
    since, waited = time.perf_counter(), 0.0
    try:
        with (
            closing(run.batches(start)) as batches,
            progress.bar(run.steps, run.name, "step", initial=start, shown=cluster.first()) as bar,
        ):
            for index in range(start, run.steps):
                batch, seconds = _next(batches, state)
                waited += seconds
                state, scalars = run.step(state, batch, index)
                jax.block_until_ready(pending[-1:])  # else a log's steps would hold their batches
                pending.append(scalars)
                done = index + 1
                bar.update()
                if done % runtime.log_every == 0 or done == run.steps:
                    row = _means(jax.device_get(pending))
                    _check(run, row, done, checkpoints.newest())
                    seconds, since = time.perf_counter() - since, time.perf_counter()
                    log.rows.append({"step": done, **row})
                    rates = _rates(run.images_per_step * len(pending), waited, seconds)
                    log.speed.append({"step": done, **rates})
                    pending, waited = [], 0.0
                    bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
                if done % runtime.checkpoint_every == 0 or done == run.steps:
                    if cluster.first():
                        log.flush(folder)
                    checkpoints.save(done, state)
    finally:
        checkpoints.close()
    return state, log


def _resume(run: Run, checkpoints: Checkpoints, folder: Path) -> tuple[int, Any, Log]:
    newest = checkpoints.newest()
    if newest is None:
        _log.info("%s starts at step 0 of %d", run.name, run.steps)
        return 0, run.init(), Log()
    _log.info("%s resumes from step %d of %d", run.name, newest, run.steps)
    state = checkpoints.restore(newest, run.layout.abstract(run.init))
    return newest, state, Log.read(folder, newest)


def _next(batches: Iterator[Any], state: Any) -> tuple[Any, float]:
    """The next batch, and for how many seconds at most the device stood still for it.

    It did not if the step before was still being computed when the batch came.
    """
    since = time.perf_counter()
    batch = next(batches)
    seconds = time.perf_counter() - since
    return batch, seconds if jax.tree.leaves(state)[0].is_ready() else 0.0


def _rates(images: int, waited: float, seconds: float) -> dict[Hashable, float]:
    return {
        "images_per_second": round(images / seconds, 1),
        "data_wait_share": round(waited / seconds, 5),
    }


def _means(pending: list[Mapping[str, Any]]) -> dict[Hashable, float]:
    """Mean of each scalar, in float64, rounded to what float32 can tell."""
    return {
        name: float(f"{math.fsum(float(scalars[name]) for scalars in pending) / len(pending):.7g}")
        for name in pending[0]
    }


def _check(run: Run, row: Mapping[Hashable, float], step: int, newest: int | None) -> None:
    wrong = {name: value for name, value in row.items() if not math.isfinite(value)}
    if wrong:
        kept = "none was written" if newest is None else f"the last good one is of step {newest}"
        msg = f"{run.name}: {wrong} at step {step} ({kept}); {run.cure}"
        raise TrainingError(msg)
