"""All scores by sampler and extractor with their uncertainty, and the cost of sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sid2core.report import formatting
from sid2core.report.read import files
from sid2core.report.tables import Cell, Row, Table

_SCORE_NUMBERS = ("samples", "value", "low", "high", "bias", "std")
_COSTS = ("nfe", "gflops_forward", "tflops_image", "seconds_image", "batch_size", "devices")
_NAMES = {
    "classifier": "the data set’s own extractor",
    "inception": "FID’s Inception",
    "dinov2": "DINOv2",
    "clip": "CLIP",
    "captions": "the data set’s own judge of captions",
    "pixels": "pixels of predicted frames",
}

_NOTES = {
    "captions": "Retrieval: share of images whose own caption ranks first among 32. Accuracy: "
    "share in which the judge sees the value of an attribute that was asked for; seen and unseen: "
    "of images whose pair of shape and colour the train split has, or has not.",
    "pixels": "PSNR in dB and SSIM, the mean over predicted frames, against the real continuation: "
    "of the best of some samples for each clip, and of the samples’ mean.",
}
"""What the caption says of a table without distances."""


@dataclass(frozen=True)
class Measured:
    """``scores.csv`` and ``cost.csv`` as ``evaluate`` wrote them."""

    scores: pd.DataFrame
    costs: pd.DataFrame


def read(folder: Path) -> Measured:
    """Both tables.

    Raises:
        InputError: one is missing or malformed.
    """
    texts = ("sampler", "extractor", "metric")
    return Measured(
        files.table(folder / "scores.csv", "evaluate", _SCORE_NUMBERS, texts),
        files.table(folder / "cost.csv", "evaluate", _COSTS, ("sampler", "device")),
    )


def intervals(measured: Measured) -> dict[str, tuple[float, float]]:
    """By sampler the interval of ``fd_eval``, with the bias that the distance has."""
    lines = measured.scores.to_dict("records")
    return {
        line["sampler"]: (line["low"] + line["bias"], line["high"] + line["bias"])
        for line in lines
        if line["metric"] == "fd_eval" and math.isfinite(line["low"] + line["bias"])
    }


def view(measured: Measured, titles: Mapping[str, str], what: str = "image") -> dict[str, Any]:
    """The values of the template: one table per extractor, and the table of costs.

    Args:
        measured: both tables as read.
        titles: the titles of the samplers by name.
        what: what a sample is.
    """
    extractors = list(dict.fromkeys(measured.scores["extractor"]))
    return {
        "extractors": [
            _extractor(name, measured.scores[measured.scores["extractor"] == name], titles)
            for name in extractors
        ],
        "costs": _costs(measured.costs, titles, what),
    }


def _extractor(extractor: str, scores: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Any]:
    metrics = list(dict.fromkeys(scores["metric"]))
    samplers = list(dict.fromkeys(scores["sampler"]))
    found: dict[str, dict[str, dict[str, float]]] = {metric: {} for metric in metrics}
    for line in scores.to_dict("records"):
        found[line["metric"]][line["sampler"]] = {name: line[name] for name in _SCORE_NUMBERS}
    columns = {metric: _texts(found[metric], samplers) for metric in metrics}
    rows = tuple(
        Row(titles.get(name, name), tuple(Cell(columns[metric][i]) for metric in metrics))
        for i, name in enumerate(samplers)
    )
    first = {metric: lines[samplers[0]] for metric, lines in found.items() if samplers[0] in lines}
    return {
        "name": _NAMES.get(extractor, extractor),
        "table": Table("sampler", tuple(map(formatting.metric, metrics)), rows),
        "biases": [
            (formatting.metric(metric), formatting.significant(line["bias"]))
            for metric, line in first.items()
            if math.isfinite(line["bias"])
        ],
        "samples": first[metrics[0]]["samples"],
        "note": _NOTES.get(extractor),
    }


def _texts(lines: Mapping[str, Mapping[str, float]], samplers: Sequence[str]) -> list[str]:
    """A column of numbers with the same decimals, each with its interval or its spread."""
    decimals = formatting.decimals_for([line["value"] for line in lines.values()])

    def text(line: Mapping[str, float]) -> str:
        value, low, high, std = (
            formatting.fixed(line[name], decimals) for name in ("value", "low", "high", "std")
        )
        if math.isfinite(line["low"]):
            return f"{value} ({low} to {high})"
        return f"{value} ± {std}" if math.isfinite(line["std"]) else value

    return [text(lines[name]) if name in lines else formatting.NOTHING for name in samplers]


def _costs(costs: pd.DataFrame, titles: Mapping[str, str], what: str) -> Table:
    headings = (
        "NFE",
        "GFLOPs per forward pass",
        f"TFLOPs per {what}",
        f"seconds per {what}",
        f"{what}s per batch",
    )
    columns = [
        [formatting.count(value) for value in costs["nfe"]],
        formatting.column(list(costs["gflops_forward"])),
        [formatting.significant(value) for value in costs["tflops_image"]],
        [formatting.significant(value) for value in costs["seconds_image"]],
        [
            f"{formatting.count(size)} on {formatting.count(count)} × {device}"
            for size, count, device in zip(
                costs["batch_size"], costs["devices"], costs["device"], strict=True
            )
        ],
    ]
    rows = tuple(
        Row(titles.get(name, name), tuple(Cell(column[i]) for column in columns))
        for i, name in enumerate(costs["sampler"])
    )
    return Table("sampler", headings, rows)
