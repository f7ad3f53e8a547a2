"""What the files beside a model say about it: its data, and its scores in the evaluation."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sid2core import checksums
from sid2core.inference.model import Trained

_BASE = ("base", "constant", "searched")
"""Rows of the evaluation that draw from the base model."""


class Score(NamedTuple):
    """A measured value."""

    sampler: str
    metric: str
    samples: int
    value: float
    interval: tuple[float, float] | None
    """At 90 % confidence, where it is estimated."""


@dataclass(frozen=True)
class About:
    """What is known of a model beside its weights."""

    license: str = "unknown"
    source: str = "unknown"
    """The name of the data's source in ``params.yaml``."""
    attribution: str = ""
    """The makers and the licence of the data."""
    images: Mapping[str, int] | None = None
    """Records by split."""
    scores: tuple[Score, ...] = ()

    @classmethod
    def of(cls, trained: Trained, license: str | None = None) -> About:
        """From the project that a model's folder is in; elsewhere nothing is known.

        Args:
            trained: its folder is ``artifacts/train`` or ``artifacts/distill/student_K``.
            license: of the weights.
        """
        place = trained.folder.absolute()
        root = next((one for one in place.parents[:2] if (one / "prepare").is_dir()), None)
        prepare = {} if root is None else _json(root / "prepare/manifest.json")
        if root is None or not prepare:
            return cls(license or "unknown")
        metadata = prepare.get("metadata", {})
        return cls(
            license or "unknown",
            _source(root.parent / "reports"),
            metadata.get("attribution", ""),
            {name: one["records"] for name, one in metadata.get("splits", {}).items()},
            tuple(_scores(root, trained.student_steps)),
        )


def _scores(root: Path, student: int | None) -> list[Score]:
    """The scores of a run whose evaluation was of the model that is there now."""
    stage = "train" if student is None else "distill"
    measured = _json(root / "evaluate/manifest.json").get("inputs", {}).get(stage)
    path = root / stage / "manifest.json"
    if measured is None or not path.is_file():
        return []
    if measured != checksums.sha256(path):
        return []
    table = root.parent / "reports/evaluate/scores.csv"
    if not table.is_file():
        return []
    names = _BASE if student is None else (f"student_{student}",)
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["sampler"] in names]
    return [
        Score(
            row["sampler"],
            row["metric"],
            int(row["samples"]),
            float(row["value"]),
            (float(row["low"]), float(row["high"])) if row["low"] and row["high"] else None,
        )
        for row in rows
        if row["value"]
    ]


def _source(reports: Path) -> str:
    """What `prepare` read last."""
    data = _json(reports / "prepare/source.json").get("params", {}).get("data", {})
    return str(data.get("source", {}).get("name", "unknown"))


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
