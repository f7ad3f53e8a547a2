"""The page's clips: real ones of the eval split beside samples, as animations and film strips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from sid2core.report import animations, images
from sid2core.report.charts import figures
from sid2core.report.images import Pixels
from sid2core.report.read.clip_files import Clips
from sid2core.report.read.inputs import Inputs

LARGEST = 64
"""Frames with a longer edge are averaged down."""
MOST_FRAMES = 16
"""Columns of a film strip; of longer clips, evenly spaced frames."""
MOST_CLIPS, MOST_BYTES = 6, 3 * 2**20
"""Clips that are shown at most, and bytes of all their frames before compression."""


def view(inputs: Inputs) -> dict[str, Any] | None:
    """The values of the template's section; None for images."""
    found = inputs.clips
    if found is None:
        return None
    titles = {sampler.name: sampler.title for sampler in inputs.samplers}
    names = [titles[name] for name in found.samples]
    boards, count, frames = _boards(found), *found.real.shape[:2]
    shown = max(1, min(len(boards), MOST_BYTES // math.prod(boards.shape[1:])))
    size, full = boards.shape[-3:-1], found.real.shape[-3:-1]
    samples, chosen = boards.shape[2] - 1, images.evenly(frames, MOST_FRAMES)
    classes = [inputs.class_of(label) for label in found.labels[:shown].tolist()]
    return {
        "items": [
            {
                "title": f"Clip {number + 1}"
                + (f", {name}" if len(inputs.class_names) > 1 else ""),
                "moving": animations.moving_uri(boards[number], found.given),
                "still": animations.still_uri(boards[number]),
                "strip": animations.strip_uri(
                    _sequences(boards[number])[:, chosen], int((chosen < found.given).sum())
                ),
            }
            for number, name in enumerate(classes)
        ],
        "rows": ["real", *(f"{i + 1}: {name}" for name in names for i in range(samples))],
        "samplers": names,
        "samples": samples,
        "all": count,
        "frames": frames,
        "given": found.given,
        "columns": len(chosen),
        "reduced": f"{size[0]} × {size[1]}" if size != full else None,
        "error": None if found.error is None else _error(found.error, titles),
    }


def _error(table: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Any]:
    return {
        "figure": Markup(figures.error_over_time(table, titles)),
        "clips": int(table["clips"].iloc[0]),
        "samples": int(table["samples"].iloc[0]),
    }


def _boards(found: Clips) -> Pixels:
    """Clips that may be shown, [n, samplers, 1 + samples, f, h, w, c]; rows begin with the real."""
    drawn = np.stack([one[:MOST_CLIPS] for one in found.samples.values()], axis=1)
    real = found.real[:MOST_CLIPS, None, None].repeat(drawn.shape[1], axis=1)
    return images.reduced(np.concatenate([real, drawn], axis=2), LARGEST)


def _sequences(board: Pixels) -> Pixels:
    """The real clip, then the samples of each sampler, [1 + samplers · samples, f, h, w, c]."""
    drawn = board[:, 1:]
    return np.concatenate([board[0, :1], drawn.reshape(-1, *drawn.shape[2:])])
