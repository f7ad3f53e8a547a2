"""The conditions of samples. ``train`` needs them, and not what draws and measures samples."""

from __future__ import annotations

from collections.abc import Mapping

from jax.sharding import NamedSharding

from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import stored_conditions
from sid2core.models.architecture import UViTConfig
from sid2core.pipeline.artifact import Artifact
from sid2core.text import prompts


def records(
    inputs: Mapping[str, Artifact],
    shape: UViTConfig,
    sharding: NamedSharding | None = None,
    split: str | None = None,
) -> Dataset:
    """The data whose conditions samples have.

    The train split, which has every class; with captions or given frames the eval split.

    Args:
        inputs: the artifacts of ``prepare`` and ``text``.
        shape: of the model: its condition, and how many frames of a clip it knows.
        sharding: how devices share the captions that a frozen encoder has yet to encode.
        split: another split than that.
    """
    prepare, text = inputs["prepare"], inputs["text"]
    unseen = text.metadata["text"] is not None or shape.condition.given is not None
    chosen = split or ("eval" if unseen else "train")
    embed = prompts.embed_of(text, sharding)
    host = None if embed is None else embed.host
    return Dataset.open(prepare, chosen, text=text, embed=host, clip_frames=shape.frames)


def conditions(
    kinds: ConditionSpec, data: Dataset, count: int, seed: int, *, drawn: bool = False
) -> Condition:
    """The conditions of ``count`` samples: classes in turn, or ``drawn`` as often as they occur.

    The caption and the given frames of a sample are a function of (seed, index); frames are read
    when the sample is drawn.
    """
    vectors = kinds.text is not None and not kinds.text.learned
    if (vectors and not data.encodes) or (kinds.given is not None and not vectors):
        return stored_conditions.of_records(kinds, data, count, seed)
    return kinds.asked(count, data, seed if drawn or kinds.shuffled else None)
