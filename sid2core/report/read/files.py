"""Reads the reports of other stages; errors name the file and the command that makes it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sid2core.pipeline.artifact import ArtifactError


class InputError(ArtifactError):
    """An input of the page is missing or malformed."""


def commands(path: Path) -> dict[str, str]:
    """The command of each stage, as in ``dvc.yaml``."""
    cure = "it belongs to the project: run from the project's root, or restore it from git"
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        stages = {name: stage.get("do", stage)["cmd"] for name, stage in raw["stages"].items()}
    except FileNotFoundError:
        msg = f"{path} not found; {cure}"
        raise InputError(msg) from None
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} cannot be read as stages with commands ({error!r}); {cure}"
        raise InputError(msg) from None
    return {
        name: command if isinstance(command, str) else "\n".join(command)
        for name, command in stages.items()
    }


def table(
    path: Path,
    stage: str,
    numbers: Sequence[str],
    texts: Sequence[str] = (),
    *,
    may_be_empty: bool = False,
) -> pd.DataFrame:
    """These columns of a CSV file, rows in the order of the file; an empty number is NaN."""
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise malformed(path, stage, f"not a CSV table: {error}") from None
    absent = [name for name in (*texts, *numbers) if name not in raw]
    if absent:
        raise malformed(path, stage, f"no column {absent}; it has {list(raw)}")
    if raw.empty and not may_be_empty:
        raise malformed(path, stage, "it has no rows")
    columns: dict[str, Any] = {name: raw[name].astype(object) for name in texts}
    for name in numbers:
        try:
            columns[name] = np.array([float(value or "nan") for value in raw[name]])
        except ValueError as error:
            raise malformed(path, stage, f"column {name}: {error}") from None
    return pd.DataFrame(columns)


def numbers(path: Path, stage: str, required: Sequence[str] = ()) -> dict[str, float]:
    """The numbers of a flat JSON file; null is NaN, other values are omitted."""
    raw = mapping(path, stage)
    found = {name: number(value) for name, value in raw.items() if is_number(value)}
    absent = [name for name in required if name not in found]
    if absent:
        raise malformed(path, stage, f"no number {absent}; it has {sorted(found)}")
    return found


def mapping(path: Path, stage: str) -> dict[str, Any]:
    """The mapping in a JSON file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except ValueError as error:
        raise malformed(path, stage, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        found = type(value).__name__
        raise malformed(path, stage, f"found a {found}, expected a mapping")
    return value


def content(path: Path, stage: str) -> bytes:
    """The bytes of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path, stage) from None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; null is an unknown number."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def number(value: float | None) -> float:
    """A number of a JSON file; null is NaN."""
    return math.nan if value is None else float(value)


def _missing(path: Path, stage: str) -> InputError:
    return InputError(f"{path} not found; run `dvc repro {stage}` to make it")


def malformed(path: Path, stage: str, reason: str) -> InputError:
    """The error for a malformed file that ``stage`` writes."""
    cure = f"run `dvc repro -f -s {stage}` to make it again"
    return InputError(f"{path} is malformed: {reason}; {cure}")
