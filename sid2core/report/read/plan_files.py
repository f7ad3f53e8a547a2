"""Reads and checks the reports of ``plan``: the network, its memory and its cost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sid2core.report.read import files

_STAGE = "plan"
_KINDS = ("res", "transformer")
_REMAT = ("none", "products", "blocks", "offload", "full")
_NUMBERS = (
    "parameters",
    "gflops_forward",
    "gflops_forward_xla",
    "training_zettaflops",
    "state_mib",
    "gradient_mib",
)
_GRID = r"[1-9]\d*(x[1-9]\d*)*"
_XLA = "XLA"


@dataclass(frozen=True)
class Plan:
    """The plan's tables, rows in the order of the files, and its numbers, all 0 or more."""

    levels: pd.DataFrame
    """One row per level, finest first, the middle last."""
    remat: pd.DataFrame
    """One row per way to save memory in the backward pass."""
    terms: pd.DataFrame
    """GFLOPs of the parts of a forward pass; the last row is XLA's count of the whole."""
    numbers: Mapping[str, float]


def read(folder: Path) -> Plan:
    """Read the plan in ``folder``.

    Raises:
        InputError: a file is missing or malformed; the message names it and its command.
    """
    path = folder / "metrics.json"
    numbers = files.numbers(path, _STAGE, _NUMBERS)
    unknown = [name for name in _NUMBERS if not numbers[name] >= 0]
    if unknown:
        raise files.malformed(path, _STAGE, f"{unknown} must be 0 or more")
    return Plan(
        _levels(folder / "levels.csv"),
        _remat(folder / "remat.csv"),
        _terms(folder / "terms.csv"),
        {name: numbers[name] for name in _NUMBERS},
    )


def _levels(path: Path) -> pd.DataFrame:
    columns = ("level", "channels", "blocks", "parameters", "gflops")
    table = _table(path, columns, ("kind", "grid"))
    order = table["level"].tolist()
    if order != list(range(len(order))):
        found = [f"{level:g}" for level in order]
        raise files.malformed(path, _STAGE, f"levels are {found}, expected 0, 1, … in order")
    for name, pattern in (("kind", "|".join(_KINDS)), ("grid", _GRID)):
        _match(path, table, name, pattern)
    return table


def _remat(path: Path) -> pd.DataFrame:
    table = _table(path, ("activation_mib_image", "forwards"), ("remat",))
    found = table["remat"].tolist()
    if sorted(found) != sorted(_REMAT):
        raise files.malformed(path, _STAGE, f"remat is {found}, expected {list(_REMAT)}")
    return table


def _terms(path: Path) -> pd.DataFrame:
    table = _table(path, ("gflops",), ("term",), least=-math.inf)  # a correction may be negative
    *parts, last = table["term"].tolist()
    if not parts or _XLA not in last or any(_XLA in part for part in parts):
        reason = f"terms are {[*parts, last]}, expected XLA's count in the last row only"
        raise files.malformed(path, _STAGE, reason)
    return table


def _table(
    path: Path, numbers: Sequence[str], texts: Sequence[str], least: float = 0.0
) -> pd.DataFrame:
    """A table whose numbers are all finite and at least ``least``."""
    table = files.table(path, _STAGE, numbers, texts)
    for name in numbers:
        if not (np.isfinite(table[name]) & (table[name] >= least)).all():
            bound = f" of {least:g} or more" if math.isfinite(least) else ""
            reason = f"column {name} must have a number{bound} in every row"
            raise files.malformed(path, _STAGE, reason)
    return table


def _match(path: Path, table: pd.DataFrame, column: str, pattern: str) -> None:
    wrong = [value for value in table[column] if not re.fullmatch(pattern, value)]
    if wrong:
        reason = f"column {column} has {wrong}, expected {pattern}"
        raise files.malformed(path, _STAGE, reason)
