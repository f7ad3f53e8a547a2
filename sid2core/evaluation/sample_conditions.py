"""The conditions of samples. ``train`` needs them, and not what draws and measures samples."""

from __future__ import annotations

from collections.abc import Mapping

from jax.sharding import NamedSharding

from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import stored_conditions
from sid2core.pipeline.artifact import Artifact
from sid2core.text import prompts


def records(
    inputs: Mapping[str, Artifact],
    sharding: NamedSharding | None = None,
    split: str | None = None,
) -> Dataset:
    """The data whose conditions samples have: the train split, but with captions the eval split.

    Args:
        inputs: the artifacts of ``prepare`` and ``text``.
        sharding: how devices share the captions that a frozen encoder has yet to encode.
        split: another split than that.
    """
    prepare, text = inputs["prepare"], inputs["text"]
    chosen = split or ("train" if text.metadata["text"] is None else "eval")
    embed = prompts.embed_of(text, sharding)
    host = None if embed is None else embed.host
    return Dataset.open(prepare, chosen, text=text, embed=host)


def conditions(
    kinds: ConditionSpec, data: Dataset, count: int, seed: int, *, drawn: bool = False
) -> Condition:
    """The conditions of ``count`` samples: classes in turn, or ``drawn`` as often as they occur.

    The caption of a sample is a function of (seed, index).
    """
    if kinds.text is not None and not kinds.text.learned and not data.encodes:
        return stored_conditions.of_captions(kinds, data, count, seed)
    return kinds.asked(count, data, seed if drawn or kinds.text is not None else None)
