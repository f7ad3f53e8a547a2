"""Drawn images and clips as data URIs for the page: one picture of all, in rows and columns."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sid2core.report import animations, images


def sheet(drawn: NDArray[np.uint8], given: int = 0, *, moving: bool = True) -> dict[str, str]:
    """``image``, and of clips ``still``: data URIs of images [n, h, w, c] or clips [n, f, h, w, c].

    Args:
        drawn: the images.
        given: of clips, how many first frames the model was given; they are outlined.
        moving: whether clips play; otherwise ``image`` is their last frames.
    """
    columns = math.ceil(math.sqrt(len(drawn)))
    rows = math.ceil(len(drawn) / columns)
    cells = drawn[np.arange(rows * columns) % len(drawn)]
    cells = cells.reshape(rows, columns, *drawn.shape[1:])
    used = (np.arange(rows * columns) < len(drawn)).reshape(rows, columns)
    if drawn.ndim == 5:
        still = animations.still_uri(cells)
        return {"image": animations.moving_uri(cells, given) if moving else still, "still": still}
    return {"image": images.grid_uri(cells, used)}
