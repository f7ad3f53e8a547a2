"""Teacher and students side by side: a row for each condition and seed, a column for each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core.report import formatting, images
from sid2core.report.read.inputs import Inputs, Sampler

FEWEST_ROWS = 8
"""With fewer conditions there are rows of further seeds."""


def view(inputs: Inputs, names: Sequence[str], rows: NDArray[np.int64]) -> dict[str, Any] | None:
    """What the template shows; None without students or without their teacher.

    The grids of all samplers have the same keys, so a row starts from the same noise.

    Args:
        inputs: of the page.
        names: of all conditions.
        rows: the conditions that are shown.
    """
    shown = {one.name: one for one in inputs.shown}
    teacher = next((shown[name] for name in _teachers(inputs) if name in shown), None)
    students = sorted((one for one in inputs.shown if one.student), key=lambda one: -one.steps)
    if teacher is None or not students:
        return None
    models = [teacher, *students]
    columns = inputs.grids[teacher.name].shape[1]
    seeds = min(columns, max(1, FEWEST_ROWS // len(rows)))
    return {
        "models": [
            {"title": one.title if one.student else f"teacher: {one.title}", "note": _note(one)}
            for one in models
        ],
        "seeds": seeds,
        "rows": [
            {
                "name": names[row] if seeds == 1 else f"{names[row]}, seed {seed}",
                "cells": [_cell(inputs, one, int(row), seed) for one in models],
            }
            for row in rows
            for seed in range(seeds)
        ],
    }


def _teachers(inputs: Inputs) -> tuple[str, ...]:
    """The rows of ``samplers.csv`` that may be the teacher, the first that there is."""
    if inputs.params.distill.teacher == "best" and inputs.search.best.weight == 0:
        return "winner", "base"
    return "searched", "base"


def _note(one: Sampler) -> str:
    fd = formatting.significant(one.fd_eval)
    return f"{formatting.count(one.nfe)} evaluations, fd eval {fd}"


def _cell(inputs: Inputs, one: Sampler, row: int, seed: int) -> str:
    """One sample as a data URI."""
    return images.grid_uri(inputs.grids[one.name][row : row + 1, seed : seed + 1])
