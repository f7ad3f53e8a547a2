"""The table of the guidance search, ``grid.csv``: what its rows hold.

This module imports nothing heavy, so that the page can use it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

SETTING_TEXTS = ("average", "negative", "sampler")
SETTING_NUMBERS = ("steps", "weight", "logsnr_min", "logsnr_max")
"""The columns that together say which setting a row is of."""
TEXTS = (*SETTING_TEXTS, "interval", "kept", "distance")
"""The columns that are no numbers."""


@dataclass(frozen=True)
class Score:
    """A row of ``grid.csv``: a setting, and how it stood in the last round that it took part in.

    Attributes:
        average: of the model's weights.
        negative: what guidance pushes away from.
        sampler: what draws, with its parameters.
        steps: of the sampler.
        weight: of the guidance.
        logsnr_min: lower end of its interval; None for the whole range.
        logsnr_max: upper end.
        interval: the interval in words.
        fd_train: distance to the train split, as measured.
        fd_train_low: lower end of the confidence interval without the bias of few samples.
        fd_train_high: upper end.
        excess: the distance less that of the best setting of the round, both without their bias.
        excess_low: lower end of its confidence interval; above 0 the setting left.
        excess_high: upper end.
        kept: whether it cannot be distinguished from the best.
        samples: images that it drew.
        agreement: share of images in the class that was asked for, as the classifier sees it.
        nfe: network evaluations an image.
        distance: the name of the distance, which depends on the feature extractor.
    """

    average: str
    negative: str
    sampler: str
    steps: int
    weight: float
    logsnr_min: float | None
    logsnr_max: float | None
    interval: str
    fd_train: float
    fd_train_low: float
    fd_train_high: float
    excess: float
    excess_low: float
    excess_high: float
    kept: bool
    samples: int
    agreement: float | None
    nfe: int
    distance: str


NUMBERS = tuple(one.name for one in dataclasses.fields(Score) if one.name not in TEXTS)
