"""The artifact of ``evaluate``: kept samples, grids of classes and the features' statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning
from sid2core.evaluation import drawing, tables
from sid2core.evaluation.drawing import EvaluationRun, SampleSet
from sid2core.pipeline.artifact import Draft


def save(
    draft: Draft, sets: Sequence[SampleSet], grids: Sequence[SampleSet], run: EvaluationRun
) -> list[dict[str, Any]]:
    """Write ``<sampler>.npz``, ``statistics/<sampler>.<extractor>.npz`` and ``grids.npz``.

    Args:
        draft: the artifact.
        sets: the samples that are measured, all drawn.
        grids: those that are only shown, all drawn.
        run: where the chunks are.

    Returns:
        The rows of ``cost.csv``.
    """
    costs = []
    for one in sets:
        drawn = drawing.read(one, run)
        count = len(drawn.images)
        classes = conditioning.columns(one.condition(slice(count)), count)
        np.savez_compressed(draft.path(f"{one.name}.npz"), images=drawn.images, **classes)
        for reference in run.evaluator.references:
            place = draft.path(f"statistics/{one.name}.{reference.extractor.name}.npz")
            drawn.accumulator.moments(reference).save(place)
        costs.append(tables.cost_row(one.spec, drawn.seconds, run))
    arrays: dict[str, Any] = {one.spec.name: _grid(one, run) for one in grids}
    np.savez_compressed(draft.path("grids.npz"), **arrays)
    return costs


def costs(sets: Sequence[SampleSet], run: EvaluationRun) -> list[dict[str, Any]]:
    """The rows of ``cost.csv`` of samples that are measured and not kept, all drawn."""
    return [tables.cost_row(one.spec, drawing.read(one, run).seconds, run) for one in sets]


def _grid(one: SampleSet, run: EvaluationRun) -> NDArray[np.uint8]:
    """[rows, columns, h, w, c]: a row for each condition."""
    images = drawing.read(one, run).images
    rows = one.spec.method.denoiser.network.config.condition.rows
    return images.reshape(rows, -1, *images.shape[1:])
