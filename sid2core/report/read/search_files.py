"""The files of the guidance search: every setting with its scores, and which were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sid2core.inference.search_table import NUMBERS, SETTING_NUMBERS, SETTING_TEXTS
from sid2core.pipeline.artifact import Artifact
from sid2core.report import formatting
from sid2core.report.read import files


@dataclass(frozen=True)
class Setting:
    """One row of the search; NaN bounds mean the whole range.

    ``fd_train`` is as measured, its interval without the bias of few samples. ``excess`` is the
    difference to the best setting of the last round that this one took part in.
    """

    average: str
    negative: str
    sampler: str
    steps: float
    weight: float
    logsnr_min: float
    logsnr_max: float
    fd_train: float
    fd_train_low: float
    fd_train_high: float
    excess: float
    excess_low: float
    excess_high: float
    samples: float
    agreement: float
    nfe: float
    kept: bool

    @property
    def interval(self) -> str:
        """The interval as text."""
        return formatting.interval(self.logsnr_min, self.logsnr_max)


@dataclass(frozen=True)
class Search:
    """The settings and what became of them.

    Attributes:
        settings: all of them.
        best: the cheapest that cannot be distinguished from the lowest distance.
        guided: the best with guidance; None if there is none.
        images: that all settings drew together.
        confidence: at which settings left.
        distance: the distance that the search used: fd, or fid.
    """

    settings: tuple[Setting, ...]
    best: Setting
    guided: Setting | None
    images: int
    confidence: float
    distance: str

    @property
    def varied(self) -> set[str]:
        """The axes with several values."""
        axes = (*SETTING_TEXTS, "steps", "weight", "interval")
        return {axis for axis in axes if len({getattr(one, axis) for one in self.settings}) > 1}


def read(path: Path, search: Artifact) -> Search:
    """The table at ``path``, and ``best.json`` of the artifact.

    Raises:
        InputError: a file is missing or malformed.
    """
    table = files.table(path, "guidance_search", NUMBERS, (*SETTING_TEXTS, "kept"))
    settings = tuple(_setting(row) for row in table.to_dict("records"))
    best_path = search.path("best.json")
    found = files.mapping(best_path, "guidance_search")
    try:
        guided = found["guided"]
        return Search(
            settings,
            _find(settings, found["best"]),
            None if guided is None else _find(settings, guided),
            int(found["images"]),
            files.number(found["confidence"]),
            str(found["distance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error!r}: it must name best, guided (rows of {path}), images, confidence"
        raise files.malformed(best_path, "guidance_search", reason) from None


def _setting(row: Mapping[Any, Any]) -> Setting:
    values: dict[str, Any] = {name: float(row[name]) for name in NUMBERS}
    values |= {name: str(row[name]) for name in SETTING_TEXTS}
    return Setting(**values, kept=row["kept"] == "True")


def _find(settings: Sequence[Setting], row: Mapping[str, Any]) -> Setting:
    """The setting that equals ``row``.

    Raises:
        ValueError: there is none.
    """
    expected = [files.number(row[name]) for name in SETTING_NUMBERS]
    for setting in settings:
        found = [getattr(setting, name) for name in SETTING_NUMBERS]
        same = all(getattr(setting, name) == row[name] for name in SETTING_TEXTS)
        if same and np.allclose(found, expected, equal_nan=True):
            return setting
    msg = f"no row with {', '.join(SETTING_NUMBERS)} {expected}"
    raise ValueError(msg)
