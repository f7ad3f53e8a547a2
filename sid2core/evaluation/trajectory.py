"""Quality over the training: the distance of each snapshot, without and with guidance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sid2core import config
from sid2core.atomic import write_csv
from sid2core.config.training import Ema
from sid2core.diffusion.guidance import NoGuidance
from sid2core.evaluation import sampler_spec
from sid2core.evaluation.measuring import Measurement
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.samplers_table import (
    GUIDED,
    PLAIN,
    TRAJECTORY,
    TRAJECTORY_NUMBERS,
    TRAJECTORY_TEXTS,
)
from sid2core.inference import averages
from sid2core.inference.model import Trained
from sid2core.inference.searched import Searched


@dataclass(frozen=True, eq=False)
class Point:
    """A snapshot on one of the curves, and what draws from it."""

    step: int
    curve: str
    spec: SamplerSpec


def points(
    steps: Iterable[int],
    model: Trained,
    found: Searched,
    ema: Ema | None,
    sampling: config.Sampling,
) -> list[Point]:
    """Each snapshot without guidance, and with that of ``found`` if it has any.

    A negative that is another model, such as an earlier snapshot, stays the same.

    Args:
        steps: of the snapshots.
        model: the base model.
        found: the best setting with guidance that ``guidance_search`` found.
        ema: the average of the weights that it draws from.
        sampling: the sampler and its steps without guidance.

    Raises:
        WeightsError: the average was not kept at a snapshot and cannot be made.
    """
    made = []
    for step in steps:
        name = f"snapshot_{step}"
        plain = sampler_spec.guided(_at(step, model, None), sampling, NoGuidance(), name)
        made.append(Point(step, PLAIN, _on_host(plain)))
        if found.guidance.weight > 0:
            guided = replace(found, model=_at(step, found.model, ema))
            spec = sampler_spec.searched(guided, sampling, f"{name}_searched")
            made.append(Point(step, GUIDED, _on_host(spec)))
    return made


def _at(step: int, model: Trained, ema: Ema | None) -> Trained:
    """The same model with the weights of a snapshot."""
    return replace(model, params=averages.read(model.folder, model.denoiser.network, ema, step))


def _on_host(spec: SamplerSpec) -> SamplerSpec:
    """The same with weights on the host, where those of many snapshots have room."""
    return replace(spec, params={name: np.asarray(value) for name, value in spec.params.items()})


def write(
    folder: Path, points: Sequence[Point], measured: Mapping[str, Measurement], distance: str
) -> None:
    """Write ``trajectory.csv``: a row for each point; without points the heading alone.

    Args:
        folder: where to.
        points: what was drawn.
        measured: by the names of their samplers.
        distance: the name of the primary extractor's distance, such as ``fd``.
    """
    rows = [_row(one, measured[one.spec.name], f"{distance}_eval") for one in points]
    columns = [*TRAJECTORY_TEXTS, *TRAJECTORY_NUMBERS]
    write_csv(folder / TRAJECTORY, pd.DataFrame(rows, columns=columns))


def _row(point: Point, measured: Measurement, metric: str) -> dict[str, Any]:
    score = next(one for one in measured.scores if one.metric == metric)
    return {
        "step": point.step,
        "curve": point.curve,
        "metric": metric,
        "samples": score.samples,
        **{name: _rounded(getattr(score, name)) for name in ("value", "low", "high")},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
