"""The log of a run: rows of means, and in another table its speed."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from sid2core import atomic
from sid2core.training.failures import TrainingError
from sid2core.training.skip_nonfinite import SKIPPED

CURVE, SPEED = "curve.csv", "speed.csv"
Row = dict[Hashable, Any]


@dataclass
class Log:
    """Rows of scalars, and the rate at which they came, apart: the rate is never reproducible.

    Attributes:
        rows: one a row of ``curve.csv``: its last step, then means over its steps.
        speed: one a row of ``speed.csv``.
        pending: the scalars of each step since the last row. A checkpoint holds them too, so it may
            be written between two rows.
    """

    rows: list[Row] = field(default_factory=list)
    speed: list[Row] = field(default_factory=list)
    pending: list[Mapping[str, Any]] = field(default_factory=list)

    def fetch(self) -> list[dict[str, Any]]:
        """What is pending, as numbers: from now on it is nowhere but on the host."""
        fetched = [
            {name: np.asarray(value).item() for name, value in one.items()}
            for one in jax.device_get(self.pending)
        ]
        self.pending = list(fetched)
        return fetched

    def close_row(self, step: int, rates: Row) -> Row:
        """End a row at ``step``, the means of what is pending; returns it."""
        row: Row = {"step": step, **means(self.fetch())}
        self.rows.append(row)
        self.speed.append({"step": step, **rates})
        self.pending = []
        return row

    def latest(self, name: str) -> float | None:
        """The newest mean of ``name``; None where no update counted yet."""
        found = (row[name] for row in reversed(self.rows) if math.isfinite(row[name]))
        return next(found, None)

    def flush(self, folder: Path) -> None:
        """Write both tables, each replaced whole, whatever happens to the machine's power."""
        for name, table in ((CURVE, self.rows), (SPEED, self.speed)):
            atomic.write_csv(folder / name, pd.DataFrame(table))

    @classmethod
    def read(cls, folder: Path, step: int, pending: Sequence[Mapping[str, Any]]) -> Log:
        """What was logged up to ``step``, where a checkpoint has ``pending``.

        Raises:
            TrainingError: the tables cannot be read, or do not lead up to there.
        """
        log = cls(pending=list(pending))
        closed = step - len(pending)
        if closed:
            tables = [_table(folder / name, folder) for name in (CURVE, SPEED)]
            log.rows, log.speed = (
                table[table["step"] <= closed].to_dict("records") for table in tables
            )
        last = log.rows[-1]["step"] if log.rows else 0
        if last != closed:
            msg = (
                f"{folder / CURVE} ends at step {last}, but the checkpoint of step {step} goes on "
                f"from step {closed}: remove {folder}, or set SID2_FRESH=1, to start anew"
            )
            raise TrainingError(msg)
        return log


def _table(path: Path, folder: Path) -> pd.DataFrame:
    # Seven digits (see means) come back to the last bit by pandas's default parser.
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # of pandas's own, all are ValueErrors
        msg = (
            f"{path} cannot be read ({error}), and the log goes on from there: remove {folder}, "
            "or set SID2_FRESH=1, to start anew"
        )
        raise TrainingError(msg) from error


def means(steps: Sequence[Mapping[str, float]]) -> Row:
    """Mean of each scalar, and how many steps were skipped.

    Skipped updates are left out of the means: their values are not finite. If none is left, a
    mean is NaN, an empty cell of the table.
    """
    counted = [one for one in steps if not one.get(SKIPPED)]
    row: Row = {name: _mean([one[name] for one in counted]) for name in steps[0]}
    return row | ({SKIPPED: len(steps) - len(counted)} if SKIPPED in row else {})


def _mean(values: Sequence[float]) -> float:
    """In float64, rounded to the precision of float32."""
    return float(f"{math.fsum(values) / len(values):.7g}") if values else math.nan


def peak_memory_mib() -> float:
    """The most memory in use at once so far, in MiB, on the fullest device.

    Where devices keep no count, as processors, it is what the whole process had resident.
    """
    counts = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max(one.get("peak_bytes_in_use", 0) for one in counts)
    if not peak:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return round(peak / 2**20, 1)
