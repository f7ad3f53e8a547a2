"""The tables and metrics that ``evaluate`` reports."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from sid2core.atomic import write_csv, write_json
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.measuring import Measurement
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.samplers_table import (
    BASELINE,
    MODES,
    TITLES,
    SamplerRow,
    title,
    warning,
)
from sid2core.metrics.captions.extractor import NAME as CAPTIONS
from sid2core.metrics.clips.prediction import NAME as PIXELS
from sid2core.metrics.names import count_name
from sid2core.metrics.scores import Score
from sid2core.models import cost
from sid2core.models.uvit import UViTConfig

_log = logging.getLogger(__name__)
RATIO = "_ratio"
"""Of a metric's name: a distance over that of the real-data baseline."""
_METRICS = (
    *("fid_eval", "fid_train", "inception_score", "fd_dinov2_eval", "clip_score"),
    *("fvd_eval", "fvd_train", "fvd_k600_eval", "fvd_k600_published"),
)
"""Of further extractors' scores, those among a sampler's metrics; ratios and :data:`_WHOLE` too."""
_WHOLE = (CAPTIONS, PIXELS)


def write(
    folder: Path, specs: Sequence[SamplerSpec | str], measured: Mapping[str, Measurement]
) -> None:
    """Write ``samplers.csv``, ``scores.csv`` and ``metrics.json``; warn of samples far from real.

    Args:
        folder: where to.
        specs: the samplers in the order of the rows, and baselines by their names.
        measured: by the sampler's name, or the baseline's.
    """
    rows = dict[str, SamplerRow]()
    scores, metrics = list[dict[str, Any]](), {}
    real = measured.get(BASELINE)
    clips = any(_shape(one).is_video for one in specs if not isinstance(one, str))
    for spec in specs:
        found = _with_ratios(measured[spec if isinstance(spec, str) else spec.name], real)
        row = sampler_row(spec, found, clips=clips)
        rows[row.sampler] = row
        scores += score_rows(row.sampler, found.scores)
        metrics[row.sampler] = sampler_metrics(row, found.scores)
    write_table(folder / "samplers.csv", map(asdict, rows.values()))
    write_table(folder / "scores.csv", scores)
    write_json(folder / "metrics.json", metrics)
    samplers = [row for name, row in rows.items() if name not in TITLES]
    far = warning(samplers, rows[BASELINE]) if BASELINE in rows else None
    if far is not None:
        _log.warning("%s", far)


def _with_ratios(found: Measurement, real: Measurement | None) -> Measurement:
    """Behind each distance to the eval split, how many times that of the baseline ``real`` it is.

    The real training images are held out from the eval split, as samples are. Distances of
    different numbers of images have different biases and no ratio.
    """
    expected = {} if real is None else {(one.extractor, one.metric): one for one in real.scores}
    scores = []
    for one in found.scores:
        scores.append(one)
        other = expected.get((one.extractor, one.metric))
        if other is None or one.low is None or not one.metric.endswith("_eval"):
            continue
        if other.samples == one.samples and other.value > 0:
            metric, value = f"{one.metric}{RATIO}", one.value / other.value
            scores.append(Score(one.extractor, metric, one.samples, value))
    return replace(found, scores=scores)


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file with one column a key."""
    write_csv(path, pd.DataFrame(list(rows)))


def sampler_row(
    spec: SamplerSpec | str, measured: Measurement, *, clips: bool = False
) -> SamplerRow:
    """A sampler's row of ``samplers.csv``, or that of a baseline of this name."""
    by_name = {score.metric: score.value for score in reversed(measured.scores)}
    agreement = measured.agreement
    scores: dict[str, Any] = {
        "samples": measured.scores[0].samples,
        "fd_eval": round(by_name["fd_eval"], 6),
        "fd_train": round(by_name["fd_train"], 6),
        "agreement": math.nan if agreement is None else round(agreement, 6),
        "fd_eval_ratio": round(by_name.get(f"fd_eval{RATIO}", math.nan), 6),
        **{name: round(by_name.get(name, math.nan), 6) for name in MODES},
    }
    return SamplerRow(**scores, **_described(spec, clips=clips))


def _shape(spec: SamplerSpec) -> UViTConfig:
    return spec.method.denoiser.network.config


def _described(spec: SamplerSpec | str, *, clips: bool) -> dict[str, Any]:
    """The columns that say what a sampler is and what it costs."""
    if isinstance(spec, str):
        names = ("steps", "guidance_weight", "logsnr_min", "logsnr_max")
        costs = ("nfe", "gflops_forward", "gflops_image")
        nothing = dict.fromkeys((*names, *costs), math.nan)
        return {"sampler": spec, "title": title(spec, clips=clips), **nothing}
    method = spec.method
    low, high = method.guidance.interval
    guided = method.guidance.weight != 0.0
    return {
        "sampler": spec.name,
        "title": spec.title,
        "series": spec.series,
        "steps": method.steps,
        "guidance_weight": method.guidance.weight,
        "logsnr_min": low if guided and math.isfinite(low) else math.nan,
        "logsnr_max": high if guided and math.isfinite(high) else math.nan,
        "nfe": method.nfe,
        "gflops_forward": cost.forward_gflops(_shape(spec)),
        "gflops_image": method.gflops_image,
    }


def sampler_metrics(row: SamplerRow, scores: Sequence[Score]) -> dict[str, float]:
    """What ``dvc metrics diff`` compares: few numbers, named with their sample count.

    Timings are not among them: they differ each time.
    """
    count = count_name(int(row.samples))
    values = {
        f"fd_eval_{count}": row.fd_eval,
        f"fd_train_{count}": row.fd_train,
        **{
            f"{one.metric}_{count_name(one.samples)}": one.value
            for one in scores
            if one.metric in _METRICS or one.metric.endswith(RATIO) or one.extractor in _WHOLE
        },
    }
    optional = {
        f"agreement_{count}": row.agreement,
        **{f"{name}_{count}": getattr(row, name) for name in MODES},
        "nfe": row.nfe,
        "gflops_image": row.gflops_image,
    }
    values |= {name: value for name, value in optional.items() if not math.isnan(value)}
    return {name: round(value, 5) for name, value in values.items()}


def score_rows(sampler: str, scores: Iterable[Score]) -> Iterator[dict[str, Any]]:
    """Rows of ``scores.csv``, one a score."""
    for score in scores:
        values = {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in vars(score).items()
        }
        yield {"sampler": sampler, **values}


def cost_row(spec: SamplerSpec, seconds: float | None, run: EvaluationRun) -> dict[str, Any]:
    """A row of ``cost.csv``, the supplement's Table 5, with the time that drawing took here."""
    method = spec.method
    return {
        "sampler": spec.name,
        "nfe": method.nfe,
        "gflops_forward": cost.forward_gflops(_shape(spec)),
        "tflops_image": method.gflops_image / 1000,
        "seconds_image": None if seconds is None else float(f"{seconds:.4g}"),
        "batch_size": run.batch_size,
        "devices": run.devices,
        "device": jax.local_devices()[0].device_kind,
    }
