"""Reads the example clips that ``evaluate`` drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sid2core.evaluation.clips import clip_table
from sid2core.pipeline.artifact import Artifact
from sid2core.report.images import Pixels
from sid2core.report.read import files


@dataclass(frozen=True)
class Clips:
    """Example clips.

    Attributes:
        real: of the eval split, [n, f, h, w, c].
        labels: their classes, [n].
        given: how many first frames the samplers were given.
        samples: of each clip, [n, s, f, h, w, c], by sampler.
        error: rows of ``clip_error.csv``; None where no frame is given.
    """

    real: Pixels
    labels: NDArray[np.int32]
    given: int
    samples: Mapping[str, Pixels]
    error: pd.DataFrame | None


def read(evaluate: Artifact, shape: Sequence[int]) -> Clips | None:
    """The clips of the artifact; None if it has none.

    Args:
        evaluate: the artifact.
        shape: of one clip.

    Raises:
        InputError: a file is malformed.
    """
    names: Any = evaluate.metadata.get("clips")
    if names is None:
        return None
    path = evaluate.path(clip_table.CLIPS)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in (*clip_table.ABOUT, *names)}
    except (KeyError, ValueError, OSError) as reason:
        raise files.malformed(path, "evaluate", repr(reason)) from None
    real, labels = found[clip_table.REAL], found[clip_table.LABELS]
    count, own = len(labels), tuple(shape)
    samples = {name: found[name] for name in names}
    for name, clips in {clip_table.REAL: real[:, None], **samples}.items():
        fits = clips.ndim == 6 and len(clips) == count and clips.shape[2:] == own
        if clips.dtype != np.uint8 or not fits:
            expected = f"expected uint8 [{count}, samples, {', '.join(map(str, own))}]"
            shown = f"{name} is {clips.dtype}{list(clips.shape)}"
            raise files.malformed(path, "evaluate", f"{shown}; {expected}")
    given, error = int(found[clip_table.GIVEN]), None
    if given:
        table = evaluate.path(clip_table.ERROR)
        error = files.table(table, "evaluate", clip_table.NUMBERS, clip_table.TEXTS)
    return Clips(real, labels, given, samples, error)
