"""Trains the data set's own feature extractor, a classifier of the train split."""

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
from sid2core.metrics.networks.own import Architecture, OwnExtractor
from sid2core.pipeline import progress
from sid2core.typing import Array, Image

_POINTS = 100  # of the curve, at most


@dataclass(frozen=True)
class Point:
    """Means over the steps since the previous point."""

    step: int
    loss: float
    accuracy: float


def train(
    dataset: Dataset, settings: config.Reference, seed: int, prefetch: int = 0
) -> tuple[OwnExtractor, list[Point]]:
    """Train a classifier with AdamW, cosine decay to zero, label smoothing and random shifts.

    Data of one class have nothing to classify. There the classes are rotations of the image
    (arXiv 1803.07728), which need no labels.

    The result depends only on the device and the arguments, except ``prefetch``, the number of
    batches made ahead.

    Raises:
        MetricsError: the examples are not images, or the loss is no longer finite.
    """
    architecture = _architecture(dataset, settings)
    base = rng.key(seed, "reference")
    graph, _ = architecture.split()
    weights = architecture.init(rng.key(seed, "reference/init"))
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(settings.learning_rate, settings.steps),
        weight_decay=settings.weight_decay,
    )
    state = (weights, optimiser.init(weights))
    rotate = dataset.num_classes == 1
    step = jax.jit(
        _step(graph, optimiser, settings, architecture.num_classes, rotate), donate_argnums=0
    )
    classes = ConditionSpec.of_classes(dataset.num_classes)
    loader = Loader(dataset, settings.batch_size, seed, prefetch=prefetch, condition=classes)
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
    return OwnExtractor(architecture, jax.device_get(state[0])), _curve(history)


def _architecture(dataset: Dataset, settings: config.Reference) -> Architecture:
    if len(dataset.shape) != 3:
        msg = f"records have shape {dataset.shape}; this extractor needs images [h, w, c]"
        raise MetricsError(msg)
    height, width, channels = dataset.shape
    rotations = 4 if height == width else 2
    return Architecture(
        (height, width, channels),
        rotations if dataset.num_classes == 1 else dataset.num_classes,
        tuple(settings.channels),
        settings.feature_size,
    )


def _step(
    graph: Any,
    optimiser: optax.GradientTransformation,
    settings: config.Reference,
    num_classes: int,
    rotate: bool,
) -> Callable[[Any, Batch, Array], tuple[Any, Array]]:
    """(state, batch, key) → (state, [loss, accuracy]), a pure function."""

    def loss(weights: Any, x: Image, labels: Array) -> tuple[Array, Array]:
        _, logits = nnx.merge(graph, weights)(x)
        hits = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, num_classes), settings.label_smoothing)
        return optax.softmax_cross_entropy(logits, targets).mean(), hits.mean()

    def step(state: Any, batch: Batch, key: Array) -> tuple[Any, Array]:
        weights, slots = state
        x = shifted(pixels.to_unit(batch.examples), key, settings.max_shift)
        labels = batch.condition.label
        if rotate:
            labels = jax.random.randint(jax.random.fold_in(key, 1), (len(x),), 0, num_classes)
            x = rotated(x, labels, num_classes)
        (value, accuracy), slope = jax.value_and_grad(loss, has_aux=True)(weights, x, labels)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            updates, slots = optimiser.update(slope, slots, weights)
        return (optax.apply_updates(weights, updates), slots), jnp.stack([value, accuracy])

    return step


def rotated(x: Image, turns: Array, classes: int) -> Image:
    """Image i rotated by turns[i] / classes of a full circle; classes is 4, or 2 if h ≠ w."""
    options = [lambda image, k=4 // classes * turn: jnp.rot90(image, k) for turn in range(classes)]
    return jax.vmap(lambda image, turn: jax.lax.switch(turn, options, image))(x, turns)


def shifted(x: Image, key: Array, max_shift: int) -> Image:
    """Each image moved by whole pixels, uniform in [-max_shift, max_shift]², edges repeated."""
    if max_shift == 0:
        return x
    padded = jnp.pad(x, [(0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0)], "edge")
    starts = jax.random.randint(key, (len(x), 2), 0, 2 * max_shift + 1)

    def cut(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), x.shape[1:])

    return jax.vmap(cut)(padded, starts)


def _curve(history: np.ndarray) -> list[Point]:
    """At most :data:`_POINTS` means over consecutive steps."""
    width = math.ceil(len(history) / _POINTS)
    ends = [*range(width, len(history), width), len(history)]
    return [
        Point(end, *map(float, part.mean(axis=0)))
        for end, part in zip(ends, np.split(history, ends[:-1]), strict=True)
    ]
