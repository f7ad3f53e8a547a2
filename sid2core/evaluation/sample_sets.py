"""Which images each stage draws: random streams, indices and conditions."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from jax.sharding import NamedSharding

from sid2core import conditioning, config, rng
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import prompts as evaluation_prompts
from sid2core.evaluation import sample_conditions, stored_conditions
from sid2core.evaluation.drawing import RealSet, SampleSet
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.samplers_table import BASELINE
from sid2core.inference.model import Trained
from sid2core.metrics.captions import asked as caption_asked
from sid2core.metrics.captions.asked import Asked


def asked(
    model: Trained,
    data: Dataset,
    settings: config.Eval,
    seed: int,
    sharding: NamedSharding | None = None,
) -> tuple[Condition, Asked | None]:
    """The conditions by which ``evaluate`` measures samplers, and in words what they ask for.

    Args:
        model: the base model.
        data: what :func:`sample_conditions.records` opened.
        settings: how many samples, of which conditions.
        seed: of the choice of captions.
        sharding: how devices share the captions that a frozen encoder encodes.

    Raises:
        ConditionError: ``eval.captions`` is given, and the model takes no text.
        PromptError: its file cannot be read, or has too few captions.
    """
    kinds, count = model.condition, settings.samples
    if settings.captions is not None:
        texts = evaluation_prompts.captions(settings.captions, count)
        encode = functools.partial(model.prompts(sharding).conditions_of, spec=kinds)
        return stored_conditions.of_texts(encode, texts), Asked(texts)
    condition = sample_conditions.conditions(
        kinds, data, count, seed, drawn=settings.labels == "drawn"
    )
    if kinds.text is None or data.texts is None:
        return condition, None
    rows, words = conditioning.captioned(count, len(data), seed)
    strings = data.texts.strings(data.texts.numbers(rows, words))
    return condition, caption_asked.of_rows(data, rows, strings)


def distilled(spec: SamplerSpec, condition: Condition, count: int, seed: int) -> SampleSet:
    """The images by which ``distill`` scores the teacher and each student."""
    stream = rng.key(seed, "distill/score")
    return SampleSet(spec.name, spec, stream, np.arange(count), condition)


def evaluated(
    spec: SamplerSpec,
    condition: Condition,
    count: int,
    keep: int,
    seed: int,
    asked: Asked | None = None,
    repeat: int = 0,
) -> SampleSet:
    """The images by which ``evaluate`` measures a sampler; the first ``keep`` are kept.

    Each ``repeat`` of ``eval.repeats`` has the same conditions and other keys.
    """
    stream = rng.key(seed, "evaluate")
    name = f"{spec.name}/repeat-{repeat}" if repeat else spec.name
    keys = np.arange(repeat * count, (repeat + 1) * count)
    return SampleSet(name, spec, stream, keys, condition, keep, asked=asked)


def grid(spec: SamplerSpec, data: Dataset, columns: int, seed: int) -> SampleSet:
    """Images to look at: a row of ``columns`` images for each condition, one key a column."""
    kinds = spec.method.denoiser.network.config.condition
    chosen = seed if kinds.shuffled else None
    condition = kinds.grid(columns, data, chosen)
    keys = np.tile(np.arange(columns), kinds.rows)
    stream, name = rng.key(seed, "evaluate/grid"), f"{spec.name}.grid"
    return SampleSet(name, spec, stream, keys, condition, keep=len(keys), measured=False)


def grid_records(kinds: ConditionSpec, data: Dataset, seed: int) -> dict[str, Any] | None:
    """The record of each row of :func:`grid` and its caption, if it has one.

    None without text and given frames: then rows are classes, or the first records.
    """
    texts = None if kinds.text is None else data.texts
    if texts is None and kinds.given is None:
        return None
    rows, words = conditioning.captioned(kinds.rows, len(data), seed)
    captions = {} if texts is None else {"captions": texts.strings(texts.numbers(rows, words))}
    return {"records": rows.tolist(), **captions}


def real_baseline(train: Dataset, spec: ConditionSpec, count: int, seed: int) -> RealSet:
    """The real-data baseline: ``count`` different training images, or all that there are."""
    order = np.asarray(rng.permutation(seed, "evaluate/yardstick", len(train)))
    rows = np.sort(order[:count])
    words = train.captioned and spec.text is not None
    asked = caption_asked.of_rows(train, rows) if words else None
    return RealSet(BASELINE, train, spec, rows, asked=asked)
