"""The grid of ``eval.prompts``: a row for each prompt, a column for each seed, for some samplers.

The cell in column c of a row has the random key (stream, seed + c), where the seed is the row's
own, 0 by default. So the cells of a column start from the same noise, in the base model and in its
students.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core import conditioning, config, rng
from sid2core.conditioning import Condition
from sid2core.diffusion.guidance import (
    ConstantGuidance,
    Guidance,
    IntervalGuidance,
    Negative,
    NoGuidance,
)
from sid2core.evaluation import drawing
from sid2core.evaluation.drawing import EvaluationRun, SampleSet
from sid2core.evaluation.prompts import FILE, Prompt, PromptError, read
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.inference.generator import Method
from sid2core.inference.model import Trained
from sid2core.pipeline.artifact import Draft

ConditionsOf = Callable[[Sequence[str]], Condition]
"""Prompts to their condition [n, …], on the host."""


@dataclass(frozen=True, eq=False)
class PromptGrid:
    """The grid of one sampler.

    Attributes:
        name: of the sampler.
        rows: the prompts.
        columns: how many images a row has.
        sets: the rows that are drawn in the same way, together.
        places: which rows each of the sets has.
    """

    name: str
    rows: Sequence[Prompt]
    columns: int
    sets: Sequence[SampleSet]
    places: Sequence[Sequence[int]]

    def images(self, run: EvaluationRun) -> NDArray[np.uint8]:
        """The images [rows, columns, h, w, c], all of them drawn."""
        parts = [drawing.read(one, run).images for one in self.sets]
        shape = parts[0].shape[1:]
        found = np.empty((len(self.rows), self.columns, *shape), np.uint8)
        for places, part in zip(self.places, parts, strict=True):
            found[list(places)] = part.reshape(len(places), self.columns, *shape)
        return found


def of_model(
    model: Trained,
    specs: Sequence[SamplerSpec],
    settings: config.Eval,
    seed: int,
    sharding: NamedSharding | None = None,
) -> list[PromptGrid]:
    """The grids of ``eval.prompts``: of the base model and its students; none without prompts.

    Args:
        model: the base model.
        specs: its samplers, the last one with the guidance to show, and the students.
        settings: the prompts and the number of columns.
        seed: of the run.
        sharding: how devices share the prompts that a frozen encoder encodes.

    Raises:
        PromptError: the prompts cannot be read, or the model takes no text.
    """
    rows, kinds = read(settings.prompts), model.condition
    if not rows:
        return []
    if kinds.text is None:
        takes = ", ".join(kinds.names) or "nothing"
        msg = (
            f"eval.prompts: found {len(rows)} prompts, but the model takes {takes}; set it to null"
        )
        raise PromptError(f"{msg}, or train on data with captions")
    made, students = model.prompts(sharding), [one for one in specs if one.student]
    base = [one for one in specs if not one.student][-1]
    return grids(
        base,
        students,
        rows,
        lambda texts: made.conditions_of(texts, kinds),
        settings.grid_columns,
        seed,
    )


def grids(
    base: SamplerSpec,
    students: Sequence[SamplerSpec],
    prompts: Sequence[Prompt],
    conditions_of: ConditionsOf,
    columns: int,
    seed: int,
) -> list[PromptGrid]:
    """The grids of the base model and of its students: their rows and columns are the same.

    Steps, guidance and negative prompt of a row are the base model's. A student has learned its
    own; it takes prompt and seed alone.

    Args:
        base: the base model with its sampler and guidance.
        students: the students.
        prompts: the rows.
        conditions_of: makes conditions of texts.
        columns: images a row.
        seed: of the run.
    """
    stream, all_rows = rng.key(seed, "evaluate/prompts"), range(len(prompts))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        key = prompt.steps, prompt.guidance, prompt.negative
        groups.setdefault(key, []).append(row)

    def drawn(spec: SamplerSpec, rows: Sequence[int], name: str, negative: str | None) -> SampleSet:
        some = [prompts[row] for row in rows]
        condition = conditions_of([one.text for one in some])
        keys = np.concatenate([one.seed + np.arange(columns) for one in some])
        return SampleSet(
            name,
            spec,
            stream,
            keys,
            conditioning.taken(condition, np.arange(len(some)).repeat(columns)),
            keep=len(keys),
            measured=False,
            negative=None if negative is None else conditions_of([negative]),
        )

    sets = list[SampleSet]()
    for index, rows in enumerate(groups.values()):
        method, first = _method(base.method, prompts[rows[0]]), prompts[rows[0]]
        negative = first.negative if method.guidance.negative is Negative.PROMPT else None
        name = f"{base.name}.prompts-{index}"
        sets.append(drawn(replace(base, method=method), rows, name, negative))
    of_students = [
        PromptGrid(
            one.name,
            prompts,
            columns,
            [drawn(one, all_rows, f"{one.name}.prompts", None)],
            [all_rows],
        )
        for one in students
    ]
    return [PromptGrid(base.name, prompts, columns, sets, [*groups.values()]), *of_students]


def _method(method: Method, prompt: Prompt) -> Method:
    """A sampler's method with the steps and the guidance of a row, on the same interval."""
    guidance = method.guidance
    weight = guidance.weight if prompt.guidance is None else prompt.guidance
    negative = Negative.UNCONDITIONAL if prompt.negative is None else Negative.PROMPT
    made: Guidance = ConstantGuidance(weight, negative)
    if weight == 0.0:
        made = NoGuidance()
    elif isinstance(guidance, IntervalGuidance):
        made = replace(guidance, weight=weight, negative=negative)
    return replace(method, steps=prompt.steps or method.steps, guidance=made)


def save(draft: Draft, made: Sequence[PromptGrid], run: EvaluationRun) -> None:
    """Write ``prompts.npz``, [rows, columns, h, w, c] for each sampler, and the rows' metadata."""
    if not made:
        return
    arrays: dict[str, Any] = {one.name: one.images(run) for one in made}
    np.savez_compressed(draft.path(FILE), **arrays)
    draft.metadata["prompts"] = [asdict(one) for one in made[0].rows]
