"""One training loop for every run: base training, distillation, and what comes later.

Its order is a contract:

1. restore the newest checkpoint, or start; cut the log back to its step
2. step
3. every ``log_every`` steps: fetch the means since the last row, check that they are finite, log
4. every ``checkpoint_every`` steps, and at the end: checkpoint, then flush the log

The log is cut, not appended, so a killed run's log has neither a gap nor a repeated step.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from sid2core import config, progress
from sid2core.errors import Sid2Error
from sid2core.training.checkpoints import Checkpoints
from sid2core.typing import Scalar

_log = logging.getLogger(__name__)


class TrainingError(Sid2Error):
    """Training cannot go on."""


Step = Callable[[Any, int], tuple[Any, Mapping[str, Scalar]]]
"""(state, index) → (state, scalars): one update; ``index`` counts from 0."""


@dataclass(frozen=True)
class Run:
    """What a training run is: its length, its state, its step.

    Attributes:
        name: shown beside the progress bar.
        steps: number of updates.
        init: makes the first state, a pytree of arrays.
        step: one update; deterministic in (state, index).
        images_per_step: for the rate.
        cure: what to change when the loss is no longer finite.
    """

    name: str
    steps: int
    init: Callable[[], Any]
    step: Step
    images_per_step: int
    cure: str


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
    since = time.perf_counter()
    try:
        with progress.bar(run.steps, run.name, "step", initial=start) as bar:
            for index in range(start, run.steps):
                state, scalars = run.step(state, index)
                pending.append(scalars)
                done = index + 1
                bar.update()
                if done % runtime.log_every == 0 or done == run.steps:
                    row = _means(jax.device_get(pending))
                    _check(run, row, done, checkpoints.newest())
                    seconds, since = time.perf_counter() - since, time.perf_counter()
                    rate = run.images_per_step * len(pending) / seconds
                    log.rows.append({"step": done, **row})
                    log.speed.append({"step": done, "images_per_second": round(rate, 1)})
                    pending = []
                    bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
                if done % runtime.checkpoint_every == 0 or done == run.steps:
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
    like = jax.eval_shape(run.init)
    return newest, checkpoints.restore(newest, like), Log.read(folder, newest)


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
