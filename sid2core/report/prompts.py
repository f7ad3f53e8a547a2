"""The page's grid of prompts: a row for each prompt, a column for each seed, for some samplers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sid2core.evaluation.prompts import Prompt
from sid2core.report import formatting, images
from sid2core.report.read.inputs import Inputs

LONGEST = 300
"""Characters of a prompt that are shown."""
MOST = 64
"""Prompts that are shown, so that the page stays small."""


def view(inputs: Inputs) -> dict[str, Any] | None:
    """What the template shows; None without prompts."""
    if inputs.prompts is None:
        return None
    titles = {sampler.name: sampler.title for sampler in inputs.samplers}
    grids = inputs.prompts.grids
    names = [titles.get(name, name) for name in grids]
    return {
        "samplers": names,
        "all": len(inputs.prompts.rows),
        "columns": next(iter(grids.values())).shape[1],
        "rows": [
            {
                "text": shortened(prompt.text),
                "options": ", ".join(_options(prompt)),
                "cells": [
                    {"uri": images.grid_uri(grid[row][None]), "alt": f"row {row + 1}, {name}"}
                    for name, grid in zip(names, grids.values(), strict=True)
                ],
            }
            for row, prompt in enumerate(inputs.prompts.rows[:MOST])
        ],
    }


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, cut where it is long; a note for the empty one."""
    if not text.strip():
        return "(empty)"
    return text if len(text) <= longest else f"{text[:longest]}…"


def _options(prompt: Prompt) -> Iterator[str]:
    if prompt.negative is not None:
        yield f"not: {shortened(prompt.negative)}"
    if prompt.seed:
        yield f"first seed {prompt.seed}"
    if prompt.steps is not None:
        yield formatting.steps(prompt.steps)
    if prompt.guidance is not None:
        yield f"guidance {formatting.plain(prompt.guidance)}"
