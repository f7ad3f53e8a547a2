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
FRAMES_BESIDE = 4
"""Frames of a clip that are shown one below the other, evenly spaced."""
_GAP_FRACTION = 16
_MODES = {1: "LA", 3: "RGBA"}


def stills(samples: Pixels) -> Pixels:
    """One image per sample, ``[rows, columns, h, w, c]``: of clips, the last frame.

    Args:
        samples: images ``[rows, columns, h, w, c]`` or clips ``[rows, columns, f, h, w, c]``.

    Raises:
        ValueError: the pixels are not 8-bit, or there are neither 1 nor 3 channels.
    """
    good = samples.ndim in (5, 6) and samples.shape[-1] in _MODES
    if samples.dtype != np.uint8 or not good:
        msg = (
            f"samples are {samples.dtype}{list(samples.shape)}; "
            "expected uint8 [..., height, width, 1 or 3 channels]"
        )
        raise ValueError(msg)
    return samples if samples.ndim == 5 else samples[:, :, -1]


def data_uri(picture: Pixels) -> str:
    """A PNG data URI of one image ``[h, w, c]``, or of some frames of a clip ``[f, h, w, c]``.

    The frames are :data:`FRAMES_BESIDE`, one below the other.
    """
    frames = picture if picture.ndim == 4 else picture[None]
    return grid_uri(frames[evenly(len(frames), FRAMES_BESIDE)][:, None])


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` indices below ``count``, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def png_uri(canvas: NDArray[np.uint8], mode: str) -> str:
    """A PNG data URI of a canvas [h, w, channels] of this mode of Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(canvas, mode).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def grid_uri(cells: Pixels, present: NDArray[np.bool_] | None = None) -> str:
    """A PNG data URI of ``cells``, separated by transparent gaps.

    Args:
        cells: what :func:`stills` takes; :func:`shown_size` is the size at which each is shown.
        present: ``[rows, columns]``; cells that are False stay transparent.
    """
    cells = reduced(stills(cells), LARGEST_CELL)
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
    return png_uri(canvas, _MODES[channels])


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


def shown_size(height: int, width: int, largest: int = LARGEST_CELL) -> tuple[int, int]:
    """The size at which an image of this size is embedded, if no edge may exceed ``largest``."""
    factor = _factor(height, width, largest)
    return height // factor, width // factor


def _factor(height: int, width: int, largest: int) -> int:
    return max(1, math.ceil(max(height, width) / largest))


def reduced(cells: Pixels, largest: int) -> Pixels:
    """Average blocks of pixels so that no edge exceeds ``largest``; a remainder is cropped.

    Args:
        cells: ``[…, h, w, c]``.
        largest: edge in pixels.
    """
    *others, height, width, channels = cells.shape
    factor = _factor(height, width, largest)
    if factor == 1:
        return cells
    small_height, small_width = height // factor, width // factor
    cropped = cells[..., : small_height * factor, : small_width * factor, :]
    blocks = cropped.reshape(*others, small_height, factor, small_width, factor, channels)
    return np.round(blocks.mean((-4, -2))).astype(np.uint8)
