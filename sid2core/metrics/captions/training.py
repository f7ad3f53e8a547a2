"""Trains the data set's own judge of captions, on the train split.

The heads of attributes also learn from half of the eval split's images of pairs that the train
split does not have (:func:`sid2core.metrics.captions.scores.taught`): a head that never saw a red
cross takes one for a red ring, however well a model draws it. The towers see none of them.

The loss is the symmetric contrastive one (arXiv 2103.00020) of images and captions of a batch, plus
the cross-entropy of each attribute:

    loss = ½ mean_i [ −Σ_j P_ij log softmax_j(S_ij) ] + ½ mean_j [ the same of Sᵀ ] + Σ_a CE_a

S are scaled cosines. Equal captions are the same caption: P_ij is 1 over the number of captions of
the batch that equal image i's, and 0 for others.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from sid2core import config, rng
from sid2core.data.load import pixels
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Loader
from sid2core.metrics.captions.extractor import CaptionExtractor, Design
from sid2core.metrics.captions.network import DEPTH, HEADS, WIDTH
from sid2core.metrics.captions.scores import pairs, taught
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks.classifier_training import shifted
from sid2core.pipeline import progress
from sid2core.text.learned import LearnedEncoder, LearnedSpec
from sid2core.typing import Array, Float, Labels, Scalar

VOCABULARY, MAX_TOKENS = 4096, 64
"""Of the tokenizer; captions that are longer are cut."""
_SHARE = 8  # images of the train split for each one of an unseen pair
_PART = 4096  # captions that are tokenized at once
_NEVER = -1e9


class Batch(NamedTuple):
    """Images with a caption each, on the host or on devices."""

    images: Any
    """uint8 [b, h, w, c]."""
    ids: Any
    """int32 [b, n]."""
    mask: Any
    """bool [b, n]."""
    caption: Any
    """int32 [b]: equal for equal captions, −1 for images without a caption."""
    attributes: Any
    """int32 [b, a]: the index of the value of each attribute."""


def captioned(dataset: Dataset) -> bool:
    """Whether the split has images with two different captions or more.

    Captions of clips are not judged.
    """
    if not dataset.captioned or len(dataset.shape) != 3:
        return False
    texts = (caption for some in dataset.column("captions") for caption in some)
    first = next(texts, None)
    return any(caption != first for caption in texts)


def train(
    dataset: Dataset,
    held_out: Dataset,
    attributes: Mapping[str, Sequence[str]],
    settings: config.Reference,
    seed: int,
) -> tuple[CaptionExtractor, float]:
    """Train with AdamW, cosine decay to zero and random shifts.

    The result depends only on the device and the arguments.

    Args:
        dataset: the train split, which has captions.
        held_out: the eval split.
        attributes: the possible values of each attribute of the data.
        settings: the section ``reference``.
        seed: of everything random.

    Returns:
        The extractor, and the share of images whose own caption ranked first in the last batch.

    Raises:
        MetricsError: the examples are not images, or the loss is no longer finite.
    """
    if len(dataset.shape) != 3:
        msg = f"records have shape {dataset.shape}; the caption extractor needs images [h, w, c]"
        raise MetricsError(msg)
    tokenizer = _tokenizer(dataset.column("captions"))
    names = dataset.attributes
    height, width, channels = dataset.shape
    design = Design(
        (height, width, channels),
        tuple(settings.channels),
        settings.feature_size,
        VOCABULARY,
        tokenizer.max_tokens,
        {name: tuple(attributes[name]) for name in names},
        tuple(sorted(set(pairs(dataset)))),
    )
    graph, _ = design.split(tokenizer.vocabulary)
    weights = design.init(tokenizer.vocabulary, rng.key(seed, "reference/captions/init"))
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(settings.learning_rate, settings.steps),
        weight_decay=settings.weight_decay,
    )
    state, hits = (weights, optimiser.init(weights)), 0.0
    sizes = tuple(map(len, design.attributes.values()))
    step = jax.jit(_step(_loss(graph, sizes, settings.max_shift), optimiser), donate_argnums=0)
    base = rng.key(seed, "reference/captions")
    batches = _batches(dataset, held_out, tokenizer, design, settings, seed)
    with progress.bar(settings.steps, "reference captions", "step") as bar:
        for index, batch in enumerate(batches):
            state, scores = step(state, jax.device_put(batch), jax.random.fold_in(base, index))
            value, hits = map(float, np.asarray(scores))
            if not math.isfinite(value):
                msg = (
                    f"the caption extractor's loss is {value} at step {index}; "
                    f"lower reference.learning_rate (now {settings.learning_rate})"
                )
                raise MetricsError(msg)
            bar.update()
    return CaptionExtractor(design, tokenizer, jax.device_get(state[0])), hits


def _tokenizer(captions: Sequence[Sequence[str]]) -> LearnedEncoder:
    """A tokenizer made from the captions, for as many tokens as they have."""
    texts = sorted({caption for some in captions for caption in some})
    spec = LearnedSpec(VOCABULARY, WIDTH, DEPTH, HEADS, MAX_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        fitted = spec.fit(texts, Path(folder))
    parts = (texts[start : start + _PART] for start in range(0, len(texts), _PART))
    longest = max(int(fitted.tokenize(part).lengths.max()) for part in parts)
    return replace(fitted, spec=replace(spec, max_tokens=longest))


def _batches(
    dataset: Dataset,
    held_out: Dataset,
    tokenizer: LearnedEncoder,
    design: Design,
    settings: config.Reference,
    seed: int,
) -> Iterator[Batch]:
    """The batches of all steps; one of several captions of an image is drawn for each step.

    Images of unseen pairs stand behind the others, without captions.
    """
    loader, captions = Loader(dataset, settings.batch_size, seed), dataset.column("captions")
    values, unseen = _values(dataset, design), taught(held_out, design.seen)
    count = min(-(-settings.batch_size // _SHARE), len(unseen))
    further = _values(held_out, design)
    for step in range(settings.steps):
        rows = loader.indices(step)
        words = _words(seed, step, len(rows) + count)
        some = [captions[row] for row in rows.tolist()]
        texts = [
            own[word % len(own)] if own else None for own, word in zip(some, words, strict=False)
        ]
        texts += [None] * count
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        caption = [-1 if text is None else numbers[text] for text in texts]
        tokens = tokenizer.tokenize([text or "" for text in texts])
        extra = unseen[[word % len(unseen) for word in words[len(rows) :]]]
        yield Batch(
            np.concatenate([dataset.take(rows, together=True), held_out.take(extra)]),
            tokens.ids,
            tokens.mask,
            np.array(caption, np.int32),
            np.concatenate([values[rows], further[extra]]),
        )


def _values(dataset: Dataset, design: Design) -> NDArray[np.int32]:
    """The index of the value of each attribute of each record, [n, a]."""
    names = dataset.attributes
    values = np.zeros((len(dataset), len(names)), np.int32)
    if names:
        places = [design.attributes[name].index for name in names]
        for row, stored in enumerate(dataset.column("attributes")):
            values[row] = [place(one) for place, one in zip(places, stored, strict=True)]
    return values


def _words(seed: int, step: int, count: int) -> list[int]:
    """Random whole numbers, of a generator that NumPy promises never to change."""
    digest = hashlib.sha256(f"{seed}/reference/captions/{step}".encode()).digest()
    random = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    words: list[int] = random.random_raw(count).tolist()
    return words


Loss = Callable[[Any, Batch, Array], tuple[Scalar, Scalar]]
"""(weights, batch, key) → (loss, share of images whose own caption ranks first)."""


def _loss(graph: Any, sizes: Sequence[int], max_shift: int) -> Loss:
    """The loss of a network whose attributes have so many values each."""

    def loss(weights: Any, batch: Batch, key: Array) -> tuple[Scalar, Scalar]:
        towers = nnx.merge(graph, weights)
        images, scores = towers.images(shifted(pixels.to_unit(batch.images), key, max_shift))
        texts = towers.texts(batch.ids, batch.mask)
        value, hits = contrast(towers.similarities(images, texts), batch.caption)
        start = 0
        for index, size in enumerate(sizes):
            logits, labels = scores[:, start : start + size], batch.attributes[:, index]
            value += optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            start += size
        return value, hits

    return loss


def contrast(similar: Float[Array, "b b"], caption: Labels) -> tuple[Scalar, Scalar]:
    """The contrastive loss, and the share of images whose own caption is the most similar.

    Args:
        similar: scaled cosines, [images, captions].
        caption: equal for equal captions; images of −1 have none, and do not count.
    """
    there = caption >= 0
    equal = (caption[:, None] == caption[None, :]) & there[:, None] & there[None, :]
    same, count = equal.astype(similar.dtype), jnp.maximum(there.sum(), 1).astype(similar.dtype)
    share = same / jnp.maximum(same.sum(axis=1, keepdims=True), 1.0)

    def one(similar: Array) -> Scalar:
        logs = jax.nn.log_softmax(jnp.where(there[None, :], similar, _NEVER), axis=1)
        return -(share * logs).sum() / count

    best = jnp.where(there[None, :], similar, _NEVER).argmax(axis=1)
    hits = jnp.take_along_axis(same, best[:, None], axis=1).sum()
    return 0.5 * (one(similar) + one(similar.T)), hits / count


def _step(
    loss: Loss, optimiser: optax.GradientTransformation
) -> Callable[[Any, Batch, Array], tuple[Any, Array]]:
    """(state, batch, key) → (state, [loss, share]), a pure function."""

    def step(state: Any, batch: Batch, key: Array) -> tuple[Any, Array]:
        weights, slots = state
        (value, hits), slope = jax.value_and_grad(loss, has_aux=True)(weights, batch, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            updates, slots = optimiser.update(slope, slots, weights)
        return (optax.apply_updates(weights, updates), slots), jnp.stack([value, hits])

    return step
