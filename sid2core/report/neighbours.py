"""The nearest images of a set to given images, by their pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core.report.images import Pixels

LARGEST_EDGE = 64
"""Larger images are averaged down to this edge before the comparison (time and memory)."""
LARGEST_VALUES = 2**14
"""Clips are averaged down until one of them has no more values than these, such as 16 grey frames
of 32 × 32."""


@dataclass(frozen=True)
class Found:
    """The nearest images of each query, nearest first; both arrays are ``[queries, count]``."""

    distance: NDArray[np.float64]
    index: NDArray[np.int64]


def nearest(queries: Pixels, pool: Iterable[Pixels], count: int) -> Found:
    """``d(a, b) = ||a - b||_2`` over pixels in [0, 1], the ``count`` smallest of each query.

    Computed as ``sqrt(a.a - 2 a.b + b.b)`` on whole numbers in float64, where every sum is exact:
    the result does not depend on the order of summation, and equal images are at exactly 0. Of
    equally near images the first in the pool is returned.

    Args:
        queries: images ``[n, h, w, c]``, or clips ``[n, f, h, w, c]``.
        pool: what to search, in chunks of any size ``[m, …]``.
        count: number of neighbours of each query.

    Raises:
        ValueError: the pool has fewer than ``count`` images.
    """
    factor = box_of(queries.shape[1:])
    flat = _flat(queries, factor)
    norms = np.sum(flat**2, 1, keepdims=True)
    distance = np.empty((len(queries), 0))
    index = np.empty((len(queries), 0), np.int64)
    searched = 0
    for images in pool:
        block = _flat(images, factor)
        indices = np.arange(searched, searched + len(block))
        searched += len(block)
        squared = norms - 2 * flat @ block.T + np.sum(block**2, 1)
        distance = np.concatenate([distance, squared], 1)
        index = np.concatenate([index, np.broadcast_to(indices, squared.shape)], 1)
        order = np.argsort(distance, 1, kind="stable")[:, :count]
        distance = np.take_along_axis(distance, order, 1)
        index = np.take_along_axis(index, order, 1)
    if searched < count:
        msg = f"{searched} images to search, {count} neighbours requested"
        raise ValueError(msg)
    return Found(np.sqrt(distance) / (255 * factor**2), index)


def box_of(shape: tuple[int, ...]) -> int:
    """:func:`box` for images ``[h, w, c]`` or clips ``[f, h, w, c]`` of this shape."""
    *frames, height, width, channels = shape
    return box(height, width, math.prod(frames) * channels)


def box(height: int, width: int, depth: int = 1) -> int:
    """The edge of the blocks to average so that no image edge exceeds :data:`LARGEST_EDGE`.

    It divides both edges of the image; if no divisor is large enough, it is the largest one.

    Args:
        height: of the image or the clip.
        width: of it.
        depth: values at each place, frames times channels (:data:`LARGEST_VALUES`).
    """
    common = math.gcd(height, width)
    for value in range(1, common):
        small = height // value, width // value
        fits = max(small) <= LARGEST_EDGE and math.prod(small) * depth <= LARGEST_VALUES
        if common % value == 0 and fits:
            return value
    return common


def _flat(images: Pixels, factor: int) -> NDArray[np.float64]:
    """Sums over blocks of ``factor``² pixels, one row per image: whole numbers in float64."""
    *others, height, width, channels = images.shape
    blocks = images.reshape(*others, height // factor, factor, width // factor, factor, channels)
    return blocks.sum((-4, -2), dtype=np.float64).reshape(len(images), -1)


def first_of_each_class(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """``count`` indices without selection: the first of each class, then the second, and so on."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return order[np.lexsort((ordered, rank))][:count]
