"""The results of studies, ``reports/studies/<name>/study.json``: their schema, and reading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sid2core.config import Finite, NonNegative, Section
from sid2core.report.read.files import InputError

FOLDER = Path("reports/studies")
FILE = "study.json"


class Curve(Section):
    """What one run measured: a value for each step, or a single value without a step."""

    variant: str
    seed: int
    steps: list[NonNegative]
    values: Annotated[list[Finite], Field(min_length=1)]


class Mean(Section):
    """The mean over seeds with its 95 % confidence interval, null for a single seed.

    Of a variant, or of the difference of two: ``variant`` minus ``other``, paired by seed.
    """

    variant: str
    other: str | None
    step: int | None
    mean: Finite
    low: Finite | None
    high: Finite | None


class Measured(Section):
    """One measure: the curves, the mean of each variant, and differences that claims are about."""

    name: str
    what: str
    curves: Annotated[list[Curve], Field(min_length=1)]
    means: list[Mean]
    differences: list[Mean]


class Examined(Section):
    """A claim, the differences that decide it, and the conclusion."""

    words: str
    measure: str
    differences: list[Mean]
    conclusion: Literal["supported", "contradicted", "undecided"]


class StudyResult(Section):
    """A finished study."""

    name: str
    title: str
    source: str
    scale: str
    discussion: str | None
    preset: str
    command: str
    commits: list[str]
    programs: int
    hardware: str
    seeds: list[int]
    variants: dict[str, list[str]]
    measures: Annotated[list[Measured], Field(min_length=1)]
    claims: list[Examined]


def read(root: Path) -> list[StudyResult]:
    """All studies that have results, in alphabetic order.

    Raises:
        InputError: a file is malformed.
    """
    return [_one(path) for path in sorted((root / FOLDER).glob(f"*/{FILE}"))]


def _one(path: Path) -> StudyResult:
    try:
        return StudyResult.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        msg = f"{path} is malformed: {reason}; run `sid2 study report {path.parent.name}` again"
        raise InputError(msg) from None
