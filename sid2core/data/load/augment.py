"""What is done to images by chance as they are read; each image's chance is its own."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from sid2core import config


def augmented(
    images: NDArray[np.uint8], settings: config.Loader, seed: int, first: int
) -> NDArray[np.uint8]:
    """Images [b, h, w, c] or clips [b, f, h, w, c], mirrored and shifted by chance.

    Mirrored along the width with probability ½ (``horizontal_flip``), then moved by whole pixels,
    uniform in [-``max_shift``, ``max_shift``]² with edges repeated; a clip as one. Example i is
    a function of (``seed``, ``first`` + i). With neither setting the array itself comes back.
    """
    if not (settings.horizontal_flip or settings.max_shift):
        return images
    words = _words(seed, first, len(images))
    if settings.horizontal_flip:
        mirrored = (words[:, 0] >> np.uint64(63)).astype(bool)
        images = np.where(_per_example(mirrored, images), images[..., ::-1, :], images)
    if settings.max_shift:
        # The remainder is uniform to 1 in 2^60.
        places = words[:, 1:3] % np.uint64(2 * settings.max_shift + 1)
        images = _shifted(images, places.astype(np.int64), settings.max_shift)
    return images


def starts(seed: int, first: int, count: int, room: int) -> NDArray[np.int64]:
    """The first frame of a window of each of ``count`` clips, uniform in [0, ``room``].

    That of example i is a function of (``seed``, ``first`` + i), and independent of its mirroring
    and shift.
    """
    return (_words(seed, first, count)[:, 3] % np.uint64(room + 1)).astype(np.int64)


def _shifted(images: NDArray[np.uint8], places: NDArray[np.int64], most: int) -> NDArray[np.uint8]:
    """Each image cut at its place [b, 2] out of itself, widened by ``most`` pixels each way."""
    height, width = images.shape[-3:-1]
    edges = [(0, 0)] * (images.ndim - 3) + [(most, most), (most, most), (0, 0)]
    padded, moved = np.pad(images, edges, "edge"), np.empty_like(images)
    for top, left in np.unique(places, axis=0):
        chosen = (places == (top, left)).all(axis=1)
        moved[chosen] = padded[chosen, ..., top : top + height, left : left + width, :]
    return moved


def _per_example(values: NDArray, images: NDArray) -> NDArray:
    return values.reshape(-1, *[1] * (images.ndim - 1))


def _words(seed: int, first: int, count: int) -> NDArray[np.uint64]:
    """Four random words for each position from ``first`` on: a counter-based generator's own."""
    digest = hashlib.sha256(f"{seed}/augment".encode()).digest()
    generator = np.random.Philox(key=int.from_bytes(digest[:16], "little"), counter=first)
    return generator.random_raw(4 * count).reshape(count, 4)
