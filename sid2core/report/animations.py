"""Clips for the page: film strips as PNG, animated pictures as lossless WebP, both data URIs.

Clips stand in rows and columns, ``[rows, columns, f, h, w, c]``. Each cell has a margin. In the
margin of a given frame, which a sampler did not draw, is an outline.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core.data import encode
from sid2core.report import images
from sid2core.report.images import Pixels

OUTLINE = (217, 119, 6, 255)
"""RGBA of the outline: amber, which differs from light and dark paper alike."""
MILLISECONDS, HOLD = 120, 900
"""Time of a frame, and of the last one before the animation begins again.

A frame that equals the one before is stored as more time of it.
"""


def strip_uri(clips: Pixels, given: int) -> str:
    """A PNG data URI of clips ``[rows, f, h, w, c]``: a row for each, a column for each frame.

    The first ``given`` columns are outlined.
    """
    outlined = np.broadcast_to(np.arange(clips.shape[1]) < given, clips.shape[:2])
    return images.png_uri(board(clips, outlined), "RGBA")


def still_uri(clips: Pixels) -> str:
    """A PNG data URI of the last frames of clips ``[rows, columns, f, h, w, c]``."""
    last = clips[:, :, -1]
    return images.png_uri(board(last, np.zeros(last.shape[:2], bool)), "RGBA")


def moving_uri(clips: Pixels, given: int) -> str:
    """An animated WebP data URI of clips ``[rows, columns, f, h, w, c]``, lossless, without end.

    All clips play together; all cells are outlined during the first ``given`` frames.
    """
    count = clips.shape[2]
    frames = [
        Image.fromarray(board(clips[:, :, time], np.full(clips.shape[:2], time < given)), "RGBA")
        for time in range(count)
    ]
    buffer = io.BytesIO()
    encode.animated(buffer, "webp", frames, [*[MILLISECONDS] * (count - 1), HOLD])
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def board(cells: Pixels, outlined: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """RGBA ``[H, W, 4]`` of images ``[rows, columns, h, w, c]`` with transparent margins and gaps.

    Args:
        cells: the images.
        outlined: ``[rows, columns]``, whose margins are filled.
    """
    rows, columns, height, width, _ = cells.shape
    margin = gap = images.gap_of(width)
    tall, wide = height + 2 * margin, width + 2 * margin
    canvas = np.zeros((rows * (tall + gap) - gap, columns * (wide + gap) - gap, 4), np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (tall + gap), column * (wide + gap)
            if outlined[row, column]:
                canvas[top : top + tall, left : left + wide] = OUTLINE
            inner = canvas[top + margin : top + margin + height, left + margin :][:, :width]
            inner[..., :3] = cells[row, column]
            inner[..., 3] = 255
    return canvas
