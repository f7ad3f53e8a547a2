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
from sid2core.training.skip_nonfinite import SKIPPED

CURVE, SPEED = "curve.csv", "speed.csv"
NORM = "_norm"
"""How the names of norms among the scalars end."""
_WEIGHTS = f"param{NORM}"
RISE = 4.0
Row = dict[Hashable, Any]


@dataclass
class Log:
    """Rows of scalars, and the rate at which they came, apart: the rate is never reproducible.

    Attributes:
        rows: one a row of ``curve.csv``: its last step, then means over its steps.
        speed: one a row of ``speed.csv``.
        pending: the scalars of each step since the last row. A checkpoint has the whole log, these
            included, so it may be written between two rows.
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
        """Write both tables, each replaced whole, also if the machine loses power."""
        for name, table in ((CURVE, self.rows), (SPEED, self.speed)):
            atomic.write_csv(folder / name, pd.DataFrame(table))

    def saved(self) -> dict[str, list[Any]]:
        """The whole log as JSON values, for a checkpoint; ``Log(**saved)`` continues it."""
        return {"rows": [*self.rows], "speed": [*self.speed], "pending": self.fetch()}

    def calm_until(self) -> int:
        """The last step before the norms rose and stayed high; 0 if no row is calm.

        A row is not calm if an update of it was skipped, or if one of its norms is not finite or
        more than ``RISE`` times the lower quartile of all rows. Neither is one of weights whose
        norm is more than ``RISE``² times the lowest: a run may be bad from its first rows on.
        """
        norms = [name for name in (self.rows or [{}])[0] if str(name).endswith(NORM)]
        values = {name: sorted(filter(math.isfinite, self._column(name))) for name in norms}
        most = {name: RISE * _lower_quartile(found) for name, found in values.items()}
        if lowest := values.get(_WEIGHTS, [])[:1]:
            most[_WEIGHTS] = min(most[_WEIGHTS], RISE**2 * lowest[0])
        calm = (
            row["step"]
            for row in reversed(self.rows)
            if not row.get(SKIPPED) and all(row[name] <= most[name] for name in norms)
        )
        return next(calm, 0)

    def _column(self, name: Hashable) -> list[float]:
        return [row[name] for row in self.rows]


def _lower_quartile(ordered: Sequence[float]) -> float:
    """Of finite values in order, so that a bad stretch may have three quarters of the rows."""
    return ordered[len(ordered) // 4] if ordered else 0.0


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
