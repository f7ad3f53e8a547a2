"""Images for the page: arrays of pixels become PNG data URIs."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

LARGEST_CELL = 128
"""Images with a longer edge are averaged down, so that the page stays below a few megabytes."""
_GAP_FRACTION = 16
_MODES = {1: "LA", 3: "RGBA"}


def stills(samples: Pixels) -> Pixels:
    """One image per sample, ``[..., h, w, c]`` with 1 or 3 channels, unchanged.

    Every sample of the page passes through here. Samples with more axes, such as clips, would be
    arranged as images here.

    Raises:
        ValueError: the pixels are not 8-bit, or there are neither 1 nor 3 channels.
    """
    if samples.dtype != np.uint8 or samples.ndim < 3 or samples.shape[-1] not in _MODES:
        msg = (
            f"samples are {samples.dtype}{list(samples.shape)}; "
            "expected uint8 [..., height, width, 1 or 3 channels]"
        )
        raise ValueError(msg)
    return samples


def data_uri(picture: Pixels) -> str:
    """A PNG data URI of one image ``[h, w, c]``."""
    return grid_uri(picture[None, None])


def grid_uri(cells: Pixels, present: NDArray[np.bool_] | None = None) -> str:
    """A PNG data URI of ``cells [rows, columns, h, w, c]``, separated by transparent gaps.

    Args:
        cells: the images; :func:`shown_size` is the size at which each is shown.
        present: ``[rows, columns]``; cells that are False stay transparent.
    """
    cells = _reduce(stills(cells))
    rows, columns, height, width, channels = cells.shape
    gap = gap_of(width)
    canvas = np.zeros(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels + 1), np.uint8
    )
    for row in range(rows):
        for column in range(columns):
            if present is None or present[row, column]:
                top, left = row * (height + gap), column * (width + gap)
                cell = canvas[top : top + height, left : left + width]
                cell[..., :channels] = cells[row, column]
                cell[..., channels] = 255
    buffer = io.BytesIO()
    Image.fromarray(canvas, _MODES[channels]).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def first_of_classes(
    labels: NDArray[np.int32], classes: NDArray[np.int64], columns: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The indices of the first ``columns`` images of each class, ``[classes, columns]``.

    The second array is False where a class has too few images; the index is 0 there.
    """
    rows = np.zeros((len(classes), columns), np.int64)
    present = np.zeros((len(classes), columns), bool)
    for row, label in enumerate(classes):
        found = np.flatnonzero(labels == label)[:columns]
        rows[row, : len(found)] = found
        present[row, : len(found)] = True
    return rows, present


def gap_of(width: int) -> int:
    """The gap in pixels between cells of this width."""
    return max(1, width // _GAP_FRACTION)


def shown_size(height: int, width: int) -> tuple[int, int]:
    """The size at which an image of this size is embedded."""
    factor = _factor(height, width)
    return height // factor, width // factor


def _factor(height: int, width: int) -> int:
    return max(1, math.ceil(max(height, width) / LARGEST_CELL))


def _reduce(cells: Pixels) -> Pixels:
    """Average blocks of pixels so that edges fit :data:`LARGEST_CELL`; a remainder is cropped."""
    rows, columns, height, width, channels = cells.shape
    factor = _factor(height, width)
    if factor == 1:
        return cells
    small_height, small_width = height // factor, width // factor
    cropped = cells[:, :, : small_height * factor, : small_width * factor]
    blocks = cropped.reshape(rows, columns, small_height, factor, small_width, factor, channels)
    return np.round(blocks.mean((3, 5))).astype(np.uint8)
