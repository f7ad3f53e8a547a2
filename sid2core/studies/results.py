"""What the finished experiments of a study measured, and what follows from it.

Everything is read from the commits of DVC's experiments: metrics files, ``trajectory.csv`` and the
hashes of programs in ``dvc.lock``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sid2core.config import yaml_edit
from sid2core.errors import few
from sid2core.report.read.study_files import Curve, Examined, Mean, Measured, StudyResult
from sid2core.studies import hardware, statistics
from sid2core.studies import study as study_file
from sid2core.studies.errors import StudyError
from sid2core.studies.experiments import Experiment
from sid2core.studies.runs import Run
from sid2core.studies.statistics import Interval
from sid2core.studies.study import Claim, Metric, Study

_COUNT = re.compile(r"_\d+k?")


def collect(
    name: str,
    study: Study,
    runs: Sequence[Run],
    finished: Mapping[str, Experiment],
    preset: str | None = None,
) -> StudyResult:
    """The result of a study whose runs are all finished.

    Args:
        name: the study's name.
        study: its file.
        runs: all its runs.
        finished: all finished experiments by name.
        preset: what took the place of the file's preset.

    Raises:
        StudyError: a run is missing, or an experiment lacks what is measured.
    """
    absent = [run.name for run in runs if run.name not in finished]
    if absent:
        msg = f"{len(absent)} of {len(runs)} runs are not finished ({few(absent)}); run "
        raise StudyError(f"{msg}`sid2 study run {name}`")
    used = [finished[run.name] for run in runs]
    measures = [one for one in (_measured(each, runs, finished) for each in study.measure) if one]
    if not measures:
        msg = f"no experiment has a measure of {study_file.FOLDER}/{name}.yaml "
        msg += f"({few(one.key for one in study.measure)}); correct the keys"
        raise StudyError(msg)
    claims = [claim for claim in study.claims if _measure_of(claim, study, measures) is not None]
    examined = [_examined(one, measures, _measure_of(one, study, measures)) for one in claims]
    option = f" --preset {preset}" if preset else ""
    return StudyResult(
        name=name,
        title=study.title,
        source=study.source,
        scale=f"Preset {preset}." if preset else study.scale,
        discussion=study.discussion,
        preset=preset or study.preset,
        command=f"sid2 study run {name}{option} && sid2 study report {name}{option}",
        commits=sorted({one.commit_of_program() for one in used}),
        programs=len({_programs(one, runs[0].stages) for one in used}),
        hardware=hardware.name(),
        seeds=list(study.seeds),
        variants={
            variant: list(study_file.lines_of(values))
            for variant, values in study.combinations().items()
        },
        measures=measures,
        claims=examined,
    )


def _measure_of(claim: Claim, study: Study, measures: Sequence[Measured]) -> Measured | None:
    """The measure that a claim is about: the one that it names, else the first that was found."""
    if claim.measure is None:
        return measures[0]
    return next((one for one in measures if one.name == claim.measure), None)


def _measured(
    metric: Metric, runs: Sequence[Run], finished: Mapping[str, Experiment]
) -> Measured | None:
    """One measure of all runs; None where no run has it.

    Raises:
        StudyError: some runs have it and some do not.
    """
    curves = []
    for run in runs:
        steps, values = _read(metric, finished[run.name])
        if values:
            curves.append(Curve(variant=run.variant, seed=run.seed, steps=steps, values=values))
    if not curves:
        return None
    if len(curves) < len(runs) or len({tuple(one.steps) for one in curves}) > 1:
        msg = f"{metric.name}: {metric.key} is in {metric.file} of {len(curves)} of {len(runs)} "
        raise StudyError(f"{msg}experiments, or at other steps; give all variants the same ones")
    means = [
        _mean(statistics.mean(values), variant, None, step)
        for variant in dict.fromkeys(run.variant for run in runs)
        for step, values in _by_step(curves, variant)
    ]
    what = metric.name
    return Measured(name=metric.name, what=what, curves=curves, means=means, differences=[])


def _read(metric: Metric, experiment: Experiment) -> tuple[list[int], list[float]]:
    """The steps and values of one run; nothing where it does not have them."""
    text = experiment.text(metric.file)
    if text is None:
        return [], []
    if metric.trajectory is None:
        value = number(json.loads(text), metric.key)
        return [], [] if value is None else [value]
    rows = [
        row
        for row in csv.DictReader(io.StringIO(text))
        if row["curve"] == metric.trajectory and row["value"]
    ]
    return [int(row["step"]) for row in rows], [float(row["value"]) for row in rows]


def number(values: Any, key: str) -> float | None:
    """``base.fd_eval`` of nested mappings, with or without the sample count at its end.

    Returns:
        None where there is none, or it is not a finite number.
    """
    *parents, last = key.split(".")
    for part in parents:
        values = values.get(part) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        return None
    found = [
        value
        for name, value in values.items()
        if name == last or name.startswith(last) and _COUNT.fullmatch(name.removeprefix(last))
    ]
    value = found[0] if len(found) == 1 else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _by_step(curves: Sequence[Curve], variant: str) -> list[tuple[int | None, list[float]]]:
    """The values of a variant, in the order of seeds, at each step."""
    own = sorted((one for one in curves if one.variant == variant), key=lambda one: one.seed)
    steps: list[int | None] = [*own[0].steps] or [None]
    return [(step, [one.values[place] for one in own]) for place, step in enumerate(steps)]


def _examined(claim: Claim, measures: list[Measured], measured: Measured | None) -> Examined:
    """Each neighbouring pair of the claim's order, at the claim's step."""
    assert measured is not None, "claims without a measure are left out"
    pairs = list(zip(claim.order[:-1], claim.order[1:], strict=True))
    found, intervals = [], []
    for smaller, larger in pairs:
        places = zip(
            _by_step(measured.curves, smaller), _by_step(measured.curves, larger), strict=True
        )
        every = [
            (step, statistics.difference(first, second)) for (step, first), (_, second) in places
        ]
        known = [_mean(one, smaller, larger, step) for step, one in every]
        measured.differences.extend(one for one in known if one not in measured.differences)
        chosen = _at(claim.at, [step for step, _ in every])
        found.append(known[chosen])
        intervals.append(every[chosen][1])
    return Examined(
        words=claim.words,
        measure=measured.name,
        differences=found,
        conclusion=statistics.conclusion(intervals),
    )


def _at(share: float, steps: Sequence[int | None]) -> int:
    """The place of the step that is nearest to a share of the last one."""
    last = steps[-1]
    if last is None:
        return 0
    return min(range(len(steps)), key=lambda place: abs((steps[place] or 0) - share * last))


def _mean(one: Interval, variant: str, other: str | None, step: int | None) -> Mean:
    known = one.seeds > 1
    return Mean(
        variant=variant,
        other=other,
        step=step,
        mean=one.mean,
        low=one.low if known else None,
        high=one.high if known else None,
    )


def _programs(experiment: Experiment, stages: Iterable[str]) -> str:
    """The hashes of the programs of these stages, as ``dvc.lock`` records them."""
    lock = yaml_edit.load(experiment.text("dvc.lock") or "{}") or {}
    outs = lock.get("stages", {}).get("code", {}).get("outs", [])
    hashes = {one["path"]: one["md5"] for one in outs}
    return json.dumps([hashes.get(f"artifacts/code/{stage}.json") for stage in stages])
