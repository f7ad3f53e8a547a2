"""Reads the grid of prompts that ``evaluate`` drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sid2core.evaluation.prompts import FILE, Prompt
from sid2core.pipeline.artifact import Artifact
from sid2core.report.images import Pixels
from sid2core.report.read import files


@dataclass(frozen=True)
class Prompts:
    """The grid of prompts.

    Attributes:
        rows: the prompts with their options.
        grids: images [rows, columns, h, w, c] by sampler.
    """

    rows: Sequence[Prompt]
    grids: Mapping[str, Pixels]


def read(evaluate: Artifact, shape: Sequence[int]) -> Prompts | None:
    """The grid of the artifact; None if it has none.

    Args:
        evaluate: the artifact.
        shape: of one image or clip.

    Raises:
        InputError: the grid is malformed.
    """
    stored: Any = evaluate.metadata.get("prompts")
    if stored is None:
        return None
    path = evaluate.path(FILE)
    try:
        rows = [Prompt(**one) for one in stored]
        with np.load(path, allow_pickle=False) as arrays:
            grids = dict(arrays)
    except (TypeError, ValueError, OSError) as error:
        raise files.malformed(path, "evaluate", repr(error)) from None
    for name, grid in grids.items():
        fits = grid.shape[:1] == (len(rows),) and grid.shape[2:] == tuple(shape)
        if grid.dtype != np.uint8 or not fits:
            expected = f"uint8 [{len(rows)}, columns, {', '.join(map(str, shape))}]"
            found = f"{name} is {grid.dtype}{list(grid.shape)}"
            raise files.malformed(path, "evaluate", f"{found}, expected {expected}")
    return Prompts(rows, grids)
