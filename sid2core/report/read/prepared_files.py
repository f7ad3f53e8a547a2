"""Reads and checks the reports of ``prepare``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sid2core.report.read import files

_STAGE = "prepare"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Prepared:
    """The reports of ``prepare``, rows in the order of the files."""

    classes: pd.DataFrame
    sizes: pd.DataFrame
    brightness: pd.DataFrame
    reasons: Mapping[str, float]
    """Number of rejects by reason, the most frequent first."""
    rejected: int
    sheet: bytes
    """The contact sheet, a PNG file."""


def read(folder: Path) -> Prepared:
    """Read and check the reports of ``prepare``.

    Raises:
        InputError: a file is missing or malformed.
    """
    numbers = files.numbers(folder / "metrics.json", _STAGE, ("rejected_images",))
    rejected = int(numbers["rejected_images"])
    reasons: dict[str, float] = {}
    if rejected:
        table = files.table(folder / "rejects.csv", _STAGE, ("images",), ("reason",))
        reasons = dict(zip(table["reason"], table["images"], strict=True))
    sheet = folder / "contact_sheet.png"
    content = files.content(sheet, _STAGE)
    if not content.startswith(_PNG):
        raise files.malformed(sheet, _STAGE, "not a PNG file")
    return Prepared(
        files.table(folder / "classes.csv", _STAGE, ("label", "images"), ("split",)),
        files.table(folder / "sizes.csv", _STAGE, ("short_side", "images")),
        files.table(folder / "brightness.csv", _STAGE, ("from", "images")),
        reasons,
        rejected,
        content,
    )
