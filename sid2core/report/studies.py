"""The page's section of studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sid2core.report import formatting
from sid2core.report.charts import study_figure
from sid2core.report.read.study_files import Mean, Measured, StudyResult

CONCLUSIONS = {
    "supported": "supported at this scale",
    "contradicted": "contradicted at this scale",
    "undecided": "undecided at this scale",
}


def view(studies: Sequence[StudyResult]) -> list[dict[str, Any]]:
    """What the template shows of each study."""
    return [
        {
            "name": one.name,
            "title": one.title,
            "source": one.source,
            "scale": one.scale,
            "discussion": one.discussion,
            "command": one.command,
            "seeds": len(one.seeds),
            "claims": [
                {
                    "words": claim.words,
                    "conclusion": CONCLUSIONS[claim.conclusion],
                    "differences": [sentence(each) for each in claim.differences],
                }
                for claim in one.claims
            ],
            "figures": [
                (Markup(study_figure.figure(one.name, each)), caption(each))
                for each in one.measures
            ],
        }
        for one in studies
    ]


def caption(measured: Measured) -> str:
    """What a figure shows."""
    seeds = len({one.seed for one in measured.curves})
    if measured.curves[0].steps:
        return f"{measured.what} over training: thin, each of {seeds} seeds; thick, their mean."
    return f"{measured.what}: each of {seeds} seeds, their mean and its 95 % confidence interval."


def sentence(one: Mean) -> str:
    """``a − b = −0.12 (95 % interval −0.2 to −0.05)``."""
    where = "" if one.step is None else f" at step {formatting.count(one.step)}"
    return f"{one.variant} − {one.other}{where} = {interval(one)}"


def interval(one: Mean) -> str:
    """``−0.12 (95 % interval −0.2 to −0.05)``, or the value alone of a single seed."""
    if one.low is None or one.high is None:
        return f"{formatting.significant(one.mean)} (one seed, no interval)"
    decimals = formatting.decimals_for([one.mean, one.high - one.low])
    mean, low, high = (formatting.fixed(each, decimals) for each in (one.mean, one.low, one.high))
    return f"{mean} (95 % interval {low} to {high})"
