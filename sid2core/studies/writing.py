"""The files of a study's report: for the page, for spreadsheets, and Markdown to commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from sid2core import atomic
from sid2core.report import formatting, studies
from sid2core.report.charts import study_figure
from sid2core.report.read import study_files
from sid2core.report.read.study_files import Mean, Measured, StudyResult

VALUES, DIFFERENCES = "values.csv", "differences.csv"


def write(result: StudyResult, folder: Path) -> list[Path]:
    """Write ``study.json``, two CSV tables and a figure for each measure; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / study_files.FILE, result.model_dump(mode="json"))
    values = [
        {
            "measure": each.name,
            "variant": one.variant,
            "seed": one.seed,
            "step": step,
            "value": value,
        }
        for each in result.measures
        for one in each.curves
        for step, value in zip_longest(one.steps, one.values)
    ]
    atomic.write_csv(folder / VALUES, pd.DataFrame(values).astype({"step": "Int64"}))
    columns = ["measure", *Mean.model_fields]
    rows = [
        {"measure": each.name, **one.model_dump()}
        for each in result.measures
        for one in [*each.means, *each.differences]
    ]
    atomic.write_csv(
        folder / DIFFERENCES, pd.DataFrame(rows, columns=columns).astype({"step": "Int64"})
    )
    figures = [_figure(result, each, folder) for each in result.measures]
    return [folder / study_files.FILE, folder / VALUES, folder / DIFFERENCES, *figures]


def write_markdown(result: StudyResult, path: Path) -> list[Path]:
    """Write the report as Markdown, with its figures beside it; returns their paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = [_figure(result, each, path.parent, path.stem) for each in result.measures]
    atomic.write_text(path, "\n".join(_lines(result, [one.name for one in figures])) + "\n")
    return [path, *figures]


def _figure(result: StudyResult, measured: Measured, folder: Path, prefix: str = "") -> Path:
    words = re.sub(r"\W+", "-", measured.name).strip("-")
    path = folder / f"{'-'.join(filter(None, [prefix, words]))}.svg"
    atomic.write_text(path, study_figure.document(study_figure.figure(result.name, measured)))
    return path


def _lines(result: StudyResult, figures: list[str]) -> Iterator[str]:
    yield from (f"# {result.title}", "", result.source, "", "## Conclusion", "")
    for claim in result.claims:
        differences = "; ".join(map(studies.sentence, claim.differences))
        conclusion = studies.CONCLUSIONS[claim.conclusion]
        yield f"- {claim.words} **{conclusion}** ({claim.measure}: {differences})."
    yield from ("", result.discussion) if result.discussion else ()
    for measured, figure in zip(result.measures, figures, strict=True):
        yield from ("", f"## {measured.name}", "", f"![{measured.what}]({figure})", "")
        yield from (studies.caption(measured), "")
        yield from _table(measured)
    yield from ("", "## Variants", "")
    for name, settings in result.variants.items():
        yield f"- `{name}`: {', '.join(f'`{one}`' for one in settings) or 'the preset'}"
    yield from ("", "## How it was run", "", result.scale, "")
    yield from ("```sh", result.command, "```", "")
    seeds = ", ".join(map(str, result.seeds))
    yield f"- seeds: {seeds} ({len(result.seeds)}); variants of one seed have the same data, order"
    yield "  and noise, so differences are paired; intervals are Student's, 95 %,"
    yield f"  degrees of freedom: {len(result.seeds) - 1}"
    yield f"- preset: `{result.preset}`; hardware: {result.hardware}"
    yield f"- commit: {', '.join(result.commits)}"
    if result.programs > 1:
        yield f"- the experiments ran {result.programs} versions of the program, so differences may"
        yield "  be due to these; `sid2 study clean` and `run` make all of them again"


def _table(measured: Measured) -> Iterator[str]:
    """The last step's mean of each variant, with each seed's value."""
    yield "| variant | mean | each seed |"
    yield "|---|---|---|"
    last = {one.variant: one for one in measured.means}
    for variant, one in last.items():
        values = [curve.values[-1] for curve in measured.curves if curve.variant == variant]
        shown = ", ".join(formatting.column(values))
        yield f"| {variant} | {studies.interval(one)} | {shown} |"
