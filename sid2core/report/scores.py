"""Tables of scores: cells with text, the best of each column marked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sid2core.evaluation.samplers_table import MODES
from sid2core.report import formatting
from sid2core.report.read.inputs import Sampler
from sid2core.report.tables import Cell, Row, Table

RATIO = "fd eval / real"
"""The heading of distances over that of the real-data baseline."""


def lowest(samplers: Sequence[Sampler]) -> Sampler | None:
    """The sampler with the lowest distance to the eval split; None if none has a finite one."""
    measured = [sampler for sampler in samplers if math.isfinite(sampler.fd_eval)]
    return min(measured, key=lambda sampler: sampler.fd_eval, default=None)


def guidance_of(sampler: Sampler) -> str:
    """Guidance as text: none, or the weight and its interval of log-SNR."""
    if not sampler.guidance_weight > 0:
        return "no guidance of its own" if sampler.student else "no guidance"
    where = formatting.interval(sampler.logsnr_min, sampler.logsnr_max)
    place = "everywhere" if where == "whole range" else f"on {where}"
    inside = " inside" if sampler.student else ""
    return f"guidance {formatting.plain(sampler.guidance_weight)} {place}{inside}"


def sampler_table(
    samplers: Sequence[Sampler], baselines: Sequence[Sampler], what: str = "image"
) -> Table:
    """All samplers, then the baselines: real training images, last, are measured like samples.

    ``what`` is what a sample is.
    """
    rows, count = [*samplers, *baselines], len(samplers)
    unit, name = formatting.flops_unit([row.gflops_image for row in samplers])
    agreement = []
    if any(math.isfinite(row.agreement) for row in rows):
        column = _column(rows, count, lambda row: 100 * row.agreement, max, suffix="%")
        agreement.append(("class agreement", *column))
    modes = [
        (name, *_column(rows, count, partial(_score, name=name), max))
        for name in MODES
        if any(math.isfinite(_score(row, name)) for row in rows)
    ]
    ratios = []
    if any(math.isfinite(row.fd_eval_ratio) for row in rows):
        ratios.append((RATIO, *_column(rows, count, lambda row: row.fd_eval_ratio)))
    columns: list[tuple[str, list[str], set[int]]] = [
        ("fd eval", *_column(rows, count, lambda row: row.fd_eval, min)),
        *ratios,
        ("fd train", *_column(rows, count, lambda row: row.fd_train, min)),
        *agreement,
        *modes,
        ("samples", [formatting.count(row.samples) for row in rows], set()),
        ("steps", [formatting.count(row.steps) for row in rows], set()),
        ("guidance weight", [_weight(row) for row in rows], set()),
        ("log-SNR interval", [_where(row) for row in rows], set()),
        ("NFE", *_column(rows, count, lambda row: row.nfe, digits=0)),
        ("GFLOPs per forward pass", *_column(rows, count, lambda row: row.gflops_forward)),
        (f"{name} per {what}", *_column(rows, count, lambda row: row.gflops_image / unit, min)),
    ]
    return Table(
        "sampler",
        tuple(heading for heading, _, _ in columns),
        tuple(
            Row(
                row.title,
                tuple(Cell(texts[i], i in best) for _, texts, best in columns),
                "" if i < count else "baseline",
            )
            for i, row in enumerate(rows)
        ),
    )


def _score(row: Sampler, name: str) -> float:
    return float(getattr(row, name))


def _column(
    rows: Sequence[Sampler],
    count: int,
    value: Callable[[Sampler], float],
    better: Callable[[list[float]], float] | None = None,
    digits: int = 3,
    suffix: str = "",
) -> tuple[list[str], set[int]]:
    """The texts of a column, and which of its first ``count`` rows have the best value."""
    values = [value(row) for row in rows]
    texts = formatting.column(values, digits) if digits else [formatting.count(v) for v in values]
    texts = [text if text == formatting.NOTHING else text + suffix for text in texts]
    finite = [entry for entry in values[:count] if math.isfinite(entry)]
    if better is None or not finite:
        return texts, set()
    best = better(finite)
    return texts, {i for i, entry in enumerate(values[:count]) if entry == best}


def _weight(sampler: Sampler) -> str:
    return "none" if sampler.guidance_weight == 0 else formatting.plain(sampler.guidance_weight)


def _where(sampler: Sampler) -> str:
    if not sampler.guidance_weight > 0:
        return formatting.NOTHING
    return formatting.interval(sampler.logsnr_min, sampler.logsnr_max)


def distilled_table(metrics: Mapping[str, Mapping[str, float]]) -> Table | None:
    """The scores of the teacher and its students from ``distill``; None if it did not run."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    if not names:
        return None
    texts = {
        name: formatting.column([metrics[model].get(name, math.nan) for model in metrics])
        for name in names
    }
    return Table(
        "model",
        tuple(_words(name) for name in names),
        tuple(
            Row(model.replace("_", " "), tuple(Cell(texts[name][i]) for name in names))
            for i, model in enumerate(metrics)
        ),
    )


def accuracies(metrics: Mapping[str, float]) -> list[tuple[str, int, float]]:
    """(split, images, accuracy) of the data set's own extractor: ``accuracy_<split>_<images>``."""
    found = []
    for name, value in metrics.items():
        match = re.fullmatch(r"accuracy_(\w+?)_(\d+)", name)
        if match:
            found.append((match[1], int(match[2]), value))
    return found


def _words(name: str) -> str:
    """The text for a metric's name: ``fd_train_512`` is fd train, 512 samples."""
    match = re.fullmatch(r"(.+)_(\d+)", name)
    if match:
        return f"{match[1].replace('_', ' ')}, {formatting.count(int(match[2]))} samples"
    return name.replace("_", " ")
