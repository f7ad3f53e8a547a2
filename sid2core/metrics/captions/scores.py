"""Retrieval of captions, and accuracy of attributes.

**Retrieval** (R-precision, arXiv 1711.10485): the share of images whose own caption has the largest
cosine among :data:`CANDIDATES` captions, of which the others are drawn from the captions of all
images. Equal texts are the same caption: another image's caption that equals an image's own is no
candidate for it. An equally large cosine of a different caption is a miss. Images without a caption
are left out.

**Attributes**: the share of images in which the head of an attribute sees the value that the image
was made for. Where the data have the attributes ``shape`` and ``colour``, and some images have a
pair of them that the train split does not have, seen and unseen pairs are reported separately too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sid2core.data.load.dataset import Dataset
from sid2core.metrics.captions.asked import Asked, of_rows
from sid2core.metrics.captions.extractor import (
    ATTRIBUTES,
    BATCH_SIZE,
    NAME,
    VECTOR,
    CaptionExtractor,
    Design,
)
from sid2core.metrics.scores import Score

CANDIDATES = 32
"""Captions among which an image's own must rank first; fewer where there are fewer."""
PAIR = ("shape", "colour")
"""The attributes whose pairs may be unseen."""
MOST = 10_000
"""Real images of a split that are scored."""
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""k texts to unit vectors [k, d]."""


def of(
    design: Design,
    encode: Encode,
    asked: Asked,
    vectors: NDArray[np.float32],
    attributes: NDArray[np.float32] | None,
) -> Iterator[Score]:
    """All scores of some images.

    Args:
        design: of the extractor that made the vectors.
        encode: its text tower.
        asked: what the images were made for.
        vectors: of the images, [n, d].
        attributes: the scores of the attributes' values, [n, k], if there are attributes.
    """
    rows = np.array([bool(one.strip()) for one in asked.captions], bool)
    captions = [one for one in asked.captions if one.strip()]
    found = retrieval(vectors[rows], encode, captions)
    if found is not None:
        yield Score(NAME, "retrieval", len(captions), found)
    if attributes is None or not asked.attributes:
        return
    hits = correct(attributes, design.attributes, asked.attributes)
    groups = {"": np.ones(len(vectors), bool)}
    if set(PAIR) <= set(asked.attributes):
        known = set(design.seen)
        pairs = zip(*(asked.attributes[name] for name in PAIR), strict=True)
        seen = np.array([pair in known for pair in pairs], bool)
        if not seen.all():
            groups |= {"_seen": seen, "_unseen": ~seen}
    for name, hit in hits.items():
        for suffix, rows in groups.items():
            if rows.any():
                value = float(hit[rows].mean())
                yield Score(NAME, f"{name}_accuracy{suffix}", int(rows.sum()), value)


def of_split(extractor: CaptionExtractor, dataset: Dataset) -> list[Score]:
    """The scores of real images, the first :data:`MOST` of a split, with their first captions.

    Those that the extractor has learned from (:func:`taught`) are left out.
    """
    rows = np.setdiff1d(np.arange(len(dataset)), taught(dataset, extractor.design.seen))[:MOST]
    parts = [
        extractor.features(dataset.take(rows[start : start + BATCH_SIZE]))
        for start in range(0, len(rows), BATCH_SIZE)
    ]
    found = {kind: np.concatenate([part[kind] for part in parts]) for kind in extractor.widths}
    asked = of_rows(dataset, rows)
    given = found.get(ATTRIBUTES)
    return list(of(extractor.design, extractor.texts, asked, found[VECTOR], given))


def pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """The values of :data:`PAIR` of each record; empty where the data do not have both."""
    names = dataset.attributes
    if not set(PAIR) <= set(names):
        return []
    first, second = (names.index(name) for name in PAIR)
    return [(row[first], row[second]) for row in dataset.column("attributes")]


def taught(held_out: Dataset, seen: Collection[tuple[str, str]]) -> NDArray[np.int64]:
    """Which records of the eval split the heads of attributes learn from.

    They are every other one of those whose pair the train split, of pairs ``seen``, does not have.
    """
    known = set(seen)
    unseen = [row for row, pair in enumerate(pairs(held_out)) if pair not in known]
    return np.array(unseen[::2], np.int64)


def retrieval(
    vectors: NDArray[np.float32], encode: Encode, captions: Sequence[str]
) -> float | None:
    """The share of images whose own caption ranks first; None without two different captions.

    Args:
        vectors: of the images, [n, d].
        encode: makes the vectors of texts.
        captions: of the images, [n].
    """
    distinct = sorted(set(captions))
    if len(distinct) < 2:
        return None
    numbers = {caption: number for number, caption in enumerate(distinct)}
    own, texts = np.array([numbers[one] for one in captions]), encode(distinct)
    cosines = np.einsum("nd,nd->n", vectors, texts[own])
    best = np.full(len(vectors), -np.inf, np.float32)
    for column in candidates(own, len(distinct)).T:
        best = np.maximum(best, np.einsum("nd,nd->n", vectors, texts[column]))
    return float((cosines > best).mean())


def clip_score(vectors: NDArray[np.float32], encode: Encode, captions: Sequence[str]) -> float:
    """``100 mean_i max(0, cos(image_i, caption_i))`` (arXiv 2104.08718, with 100 for its 2.5).

    Args:
        vectors: unit vectors of the images, [n, d].
        encode: makes the vectors of texts.
        captions: of the images, [n].
    """
    distinct = sorted(set(captions))
    numbers = {caption: number for number, caption in enumerate(distinct)}
    own = np.array([numbers[one] for one in captions])
    cosines = np.einsum("nd,nd->n", vectors, encode(distinct)[own], dtype=np.float64)
    return float(100.0 * np.maximum(cosines, 0.0).mean())


def candidates(own: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Different captions for each image, none of them its own: [n, min(31, count - 1)].

    They depend on the captions alone, so samplers are compared on the same.

    Args:
        own: the number of each image's caption, [n].
        count: of different captions.
    """
    wanted = min(CANDIDATES, count) - 1
    if wanted == count - 1:
        offsets = np.broadcast_to(np.arange(1, count), (len(own), wanted))
    else:
        digest = hashlib.sha256(f"retrieval {count}".encode()).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        rows = [random.choice(count - 1, wanted, replace=False) for _ in range(len(own))]
        offsets = np.array(rows).reshape(len(own), wanted) + 1
    return (np.asarray(own, np.int64)[:, None] + offsets) % count


def correct(
    scores: NDArray[np.float32],
    values: Mapping[str, Sequence[str]],
    asked: Mapping[str, Sequence[str]],
) -> dict[str, NDArray[np.bool_]]:
    """Whether the largest score of each attribute is that of the value that was asked for, [n]."""
    found, start = dict[str, NDArray[np.bool_]](), 0
    for name, possible in values.items():
        stop = start + len(possible)
        seen = scores[:, start:stop].argmax(axis=1)
        expected = np.array([possible.index(one) for one in asked[name]])
        found[name], start = seen == expected, stop
    return found
