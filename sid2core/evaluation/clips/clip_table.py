"""The files of example clips: ``evaluate`` writes them, the page reads them.

This module imports nothing heavy, so that the page can use it.

``clips.npz`` has ``real`` [n, f, h, w, c], clips of the eval split, their ``records`` and
``labels`` [n], ``given_frames``, how many first frames a model was given, and for each sampler
``<sampler>`` [n, s, f, h, w, c]: its s samples of each. ``clip_error.csv`` has a row for each
sampler, choice of samples and predicted frame; it is there if frames are given.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

CLIPS, ERROR = "clips.npz", "clip_error.csv"
REAL, RECORDS, LABELS, GIVEN = "real", "records", "labels", "given_frames"
ABOUT = (REAL, RECORDS, LABELS, GIVEN)
"""The arrays of ``clips.npz`` beside those of samplers."""
MEAN, BEST = "mean", "best"
"""Choices of samples: all of a clip, or the one that is nearest to it."""


@dataclass(frozen=True)
class ErrorRow:
    """One row of ``clip_error.csv``.

    Attributes:
        sampler: its name, or that of the baseline that copies the last given frame.
        choice: :data:`MEAN` or :data:`BEST`.
        frame: of the clip, from 1.
        psnr: peak signal-to-noise ratio in dB, the mean over clips.
        clips: how many.
        samples: of each, to choose from.
    """

    sampler: str
    choice: str
    frame: int
    psnr: float
    clips: int
    samples: int


TEXTS = ("sampler", "choice")
NUMBERS = tuple(one.name for one in dataclasses.fields(ErrorRow) if one.name not in TEXTS)
