"""The memorisation check compares samples and held-out images with the training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core.report import neighbours
from sid2core.report.images import Pixels
from sid2core.report.neighbours import Found
from sid2core.report.read.inputs import Inputs, Sampler, samples_of

NEIGHBOURS = 3
LARGEST_SET = 50_000
"""Maximum number of training images that are searched, evenly spaced over the split (time)."""
LARGEST_QUERY = 1000
"""Maximum number of samples and of held-out images that are compared (time)."""
_RUN, _CHUNK = 50, 250
"""Consecutive images in a subset of the split; training images in memory at once."""


@dataclass(frozen=True)
class Check:
    """Nearest training images of one sampler's images and of the eval split's."""

    sampler: Sampler
    images: Pixels
    labels: NDArray[np.int32]
    nearest: Found
    """Its indices are those of the whole train split."""
    held_out: NDArray[np.float64]
    """Distance of each eval image to its nearest training image."""
    shown: list[int]
    """Rows shown without selection: the first of each class, or the first if there are none."""
    closest: int
    """The row with the smallest distance."""
    searched: int
    """How many training images were searched."""
    reduced: tuple[int, int] | None
    """The size to which images were averaged down before the comparison; None if they were not."""


def check(inputs: Inputs, sampler: Sampler) -> Check:
    """Search the training images for the neighbours of the samples of ``sampler``."""
    images, labels = samples_of(inputs, sampler.name)
    images, labels = images[:LARGEST_QUERY], labels[:LARGEST_QUERY]
    train, others = inputs.train, inputs.held_out
    held_out = others.take(spread(len(others), LARGEST_QUERY))
    searched = spread(len(train), LARGEST_SET)
    pool = (
        train.take(searched[start : start + _CHUNK]) for start in range(0, len(searched), _CHUNK)
    )
    both = np.concatenate([images, held_out])
    found = neighbours.nearest(both, pool, min(NEIGHBOURS, len(searched)))
    own = Found(found.distance[: len(images)], searched[found.index[: len(images)]])
    height, width = images.shape[-3:-1]
    factor = neighbours.box_of(images.shape[1:])
    return Check(
        sampler=sampler,
        images=images,
        labels=labels,
        nearest=own,
        held_out=found.distance[len(images) :, 0],
        shown=neighbours.first_of_each_class(labels, inputs.params.report.neighbours).tolist(),
        closest=int(np.argmin(own.distance[:, 0])),
        searched=len(searched),
        reduced=(height // factor, width // factor) if factor > 1 else None,
    )


def spread(length: int, limit: int) -> NDArray[np.int64]:
    """All indices below ``length``, or up to ``limit`` of them in evenly spaced runs.

    A run of consecutive images is read from disk at once, which is faster than single images.
    """
    if length <= limit:
        return np.arange(length)
    starts = np.linspace(0, length - _RUN, limit // _RUN).astype(np.int64)
    return (starts[:, None] + np.arange(_RUN)).ravel()
