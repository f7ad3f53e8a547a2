"""Trains the data set's own feature extractor on its train split, with or without labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sid2core import config, rng
from sid2core.conditioning import ConditionSpec
from sid2core.data.load import pixels
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Batch, Loader
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import self_supervised
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.own import Architecture, OwnExtractor
from sid2core.pipeline import progress
from sid2core.typing import Array, Clip, Samples, Scalar

FEWEST_PER_CLASS = 10
"""Mean number of training images per class below which labels are not used."""
_LEVELS_WEIGHT = 2.0
"""Of the levels' error beside the cross-entropy, for clips with classes."""
_POINTS = 100  # of the curve, at most

Loss = Callable[[Any, Samples, Array, Array], tuple[Scalar, Scalar]]
"""(weights, images or clips in [-1, 1], labels, key) → (loss, accuracy)."""


@dataclass(frozen=True)
class Point:
    """Means over the steps since the previous point.

    Attributes:
        step: the number of steps so far.
        loss: what is minimised.
        accuracy: the share of images assigned to their class; without labels, the share of views
            whose most similar view is of the same image.
    """

    step: int
    loss: float
    accuracy: float


def train(
    dataset: Dataset,
    settings: config.Reference,
    seed: int,
    prefetch: int = 0,
    labelled: bool | None = None,
) -> tuple[OwnExtractor, list[Point]]:
    """Train with AdamW, cosine decay to zero, label smoothing and random shifts.

    With labels the network classifies. Without, each step learns from two views of half a batch
    (:mod:`sid2core.metrics.networks.self_supervised`). The class of a clip may show without its
    motion, so with labels a network of clips also estimates how much a second view of half a batch
    was degraded.

    The result depends only on the device and the arguments, except ``prefetch``.

    Args:
        dataset: the train split.
        settings: the section ``reference``.
        seed: of everything random.
        prefetch: the number of batches made ahead.
        labelled: whether to use the labels; None for what :func:`has_labels` says.

    Raises:
        MetricsError: the examples are neither images nor clips, or the loss is no longer finite.
    """
    if labelled is None:
        labelled = has_labels(dataset)
    architecture = _architecture(dataset, settings, labelled)
    base = rng.key(seed, "reference")
    graph, _ = architecture.split()
    init = rng.key(seed, "reference/init")
    weights, loss, batch_size = {"network": architecture.init(init)}, _classify, settings.batch_size
    clips = len(architecture.shape) == 4
    if not architecture.labelled:
        weights["projection"] = self_supervised.projection(
            jax.random.fold_in(init, 1), settings.feature_size
        )
        loss = _self_supervise
    elif clips:
        loss = _classify_clips
    if clips or not architecture.labelled:
        batch_size = max(1, batch_size // 2)
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(settings.learning_rate, settings.steps),
        weight_decay=settings.weight_decay,
    )
    state = (weights, optimiser.init(weights))
    step = jax.jit(_step(loss(graph, settings), optimiser), donate_argnums=0)
    classes = ConditionSpec.of_classes(dataset.num_classes)
    loader = Loader(dataset, batch_size, seed, prefetch=prefetch, condition=classes)
    history = np.empty((settings.steps, 2))
    with (
        closing(loader.stream(0, settings.steps)) as batches,
        progress.bar(settings.steps, "reference", "step") as bar,
    ):
        for index, batch in enumerate(batches):
            state, scores = step(state, batch, jax.random.fold_in(base, index))
            history[index] = np.asarray(scores)
            if not math.isfinite(history[index, 0]):
                msg = (
                    f"the extractor's loss is {history[index, 0]} at step {index}; "
                    f"lower reference.learning_rate (now {settings.learning_rate})"
                )
                raise MetricsError(msg)
            bar.update()
    network, batching = jax.device_get(state[0]["network"]), Batching(architecture.batch_size)
    return OwnExtractor(architecture, network, batching), _curve(history)


def has_labels(dataset: Dataset) -> bool:
    """Whether there are two classes or more, and enough images of each on average."""
    classes = dataset.num_classes
    return classes > 1 and len(dataset) >= FEWEST_PER_CLASS * classes


def _architecture(dataset: Dataset, settings: config.Reference, labelled: bool) -> Architecture:
    if len(dataset.shape) not in (3, 4):
        msg = f"records have shape {dataset.shape}; expected images [h, w, c] or clips [f, h, w, c]"
        raise MetricsError(msg)
    return Architecture(
        tuple(dataset.shape),
        dataset.num_classes if labelled else _ways(dataset.shape),
        tuple(settings.channels),
        settings.feature_size,
        labelled,
    )


def _ways(shape: tuple[int, ...]) -> int:
    """How many ways there are to degrade an example of this shape."""
    return self_supervised.CLIP_LEVELS if len(shape) == 4 else self_supervised.LEVELS


def _classify(graph: Any, settings: config.Reference) -> Loss:
    """Cross-entropy of the classes."""

    def loss(weights: Any, x: Samples, labels: Array, key: Array) -> tuple[Scalar, Scalar]:
        x = shifted(x, key, settings.max_shift)
        _, logits = nnx.merge(graph, weights["network"])(x)
        return _cross_entropy(logits, labels, settings.label_smoothing)

    return loss


def _cross_entropy(logits: Array, labels: Array, smoothing: float) -> tuple[Scalar, Scalar]:
    """The mean with label smoothing, and the accuracy."""
    hits = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    targets = optax.smooth_labels(targets, smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean(), hits.mean()


def _classify_clips(graph: Any, settings: config.Reference) -> Loss:
    """Cross-entropy of the clips' classes, and w ‖u − û‖² of the levels of degraded clips."""
    ways = self_supervised.CLIP_LEVELS

    def loss(weights: Any, x: Clip, labels: Array, key: Array) -> tuple[Scalar, Scalar]:
        key_shift, key_level, key_noise = jax.random.split(key, 3)
        levels = self_supervised.random_levels(key_level, len(x), ways)
        views = shifted(jnp.concatenate([x, x]), key_shift, settings.max_shift)
        damaged = self_supervised.degraded_clips(views[len(x) :], levels, key_noise)
        views = jnp.concatenate([views[: len(x)], damaged])
        _, outputs = nnx.merge(graph, weights["network"])(views)
        logits, estimated = outputs[: len(x), :-ways], outputs[len(x) :, -ways:]
        error = jnp.square(levels - estimated).sum(axis=-1).mean()
        entropy, accuracy = _cross_entropy(logits, labels, settings.label_smoothing)
        return entropy + _LEVELS_WEIGHT * error, accuracy

    return loss


def _self_supervise(graph: Any, settings: config.Reference) -> Loss:
    """The loss of :mod:`sid2core.metrics.networks.self_supervised`; labels are not used."""

    def loss(weights: Any, x: Samples, labels: Array, key: Array) -> tuple[Scalar, Scalar]:
        del labels
        key_shift, key_level, key_noise = jax.random.split(key, 3)
        levels = self_supervised.random_levels(key_level, 2 * len(x), _ways(x.shape[1:]))
        views = shifted(jnp.concatenate([x, x]), key_shift, settings.max_shift)
        clips = x.ndim == 5
        degrade = self_supervised.degraded_clips if clips else self_supervised.degraded
        views = degrade(views, levels, key_noise)
        features, estimated = nnx.merge(graph, weights["network"])(views)
        projected = jnp.matmul(features, weights["projection"], precision=jax.lax.Precision.HIGHEST)
        return self_supervised.loss(levels, estimated, projected)

    return loss


def _step(
    loss: Loss, optimiser: optax.GradientTransformation
) -> Callable[[Any, Batch, Array], tuple[Any, Array]]:
    """(state, batch, key) → (state, [loss, accuracy]), a pure function."""

    def step(state: Any, batch: Batch, key: Array) -> tuple[Any, Array]:
        weights, slots = state
        x = pixels.to_unit(batch.examples)
        (value, accuracy), slope = jax.value_and_grad(loss, has_aux=True)(
            weights, x, batch.condition.label, key
        )
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            updates, slots = optimiser.update(slope, slots, weights)
        return (optax.apply_updates(weights, updates), slots), jnp.stack([value, accuracy])

    return step


def shifted(x: Samples, key: Array, max_shift: int) -> Samples:
    """Each example moved by whole pixels, uniform in [-max_shift, max_shift]², edges repeated."""
    if max_shift == 0:
        return x
    before = [(0, 0)] * (x.ndim - 3)
    padded = jnp.pad(x, [*before, (max_shift, max_shift), (max_shift, max_shift), (0, 0)], "edge")
    starts = jax.random.randint(key, (len(x), 2), 0, 2 * max_shift + 1)

    def cut(image: Array, start: Array) -> Array:
        frames = (0,) * (image.ndim - 3)
        return jax.lax.dynamic_slice(image, (*frames, start[0], start[1], 0), x.shape[1:])

    return jax.vmap(cut)(padded, starts)


def _curve(history: np.ndarray) -> list[Point]:
    """At most :data:`_POINTS` means over consecutive steps."""
    width = math.ceil(len(history) / _POINTS)
    ends = [*range(width, len(history), width), len(history)]
    return [
        Point(end, *map(float, part.mean(axis=0)))
        for end, part in zip(ends, np.split(history, ends[:-1]), strict=True)
    ]
