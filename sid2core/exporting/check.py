"""Whether an export gives what our model gives, when another process loads it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sid2core.exporting import cases
from sid2core.exporting.exported import Exported, ExportError
from sid2core.exporting.formats import FILES, Format

TOLERANCE = 1e-4
"""The largest difference, as a share of the largest value."""
_LINES = 3
"""Lines of an error of the other process that are shown."""


class Difference(NamedTuple):
    """How far an export's output is from ours."""

    case: str
    share: float
    """The largest difference, as a share of our largest value."""


def check(form: Format, exported: Exported, folder: Path) -> list[Difference]:
    """Load the export in a fresh process without this project, and compare.

    Raises:
        ExportError: the process fails, or an output differs by more than :data:`TOLERANCE`.
    """
    inputs = {
        "network": cases.network_inputs(exported),
        "draw": cases.drawing_inputs(exported, free=form.FREE),
    }
    found = _outputs(form, folder, inputs)
    expected = {
        "network": cases.network_output(exported, inputs["network"]),
        "draw": cases.drawing(exported, inputs["draw"]),
    }
    differences = [
        Difference(case, _difference(found[case], ours)) for case, ours in expected.items()
    ]
    if any(not one.share <= TOLERANCE for one in differences):  # not a number is too far, too
        shares = ", ".join(f"{case} {share:.1e}" for case, share in differences)
        msg = f"the export differs from our model by {shares} of the maximum; expected at most "
        raise ExportError(f"{msg}{TOLERANCE:.0e}: nothing is written; please report this")
    return differences


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        msg = f"the export gives an array {found.shape}, expected {expected.shape}"
        raise ExportError(f"{msg}: nothing is written; please report this")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _outputs(form: Format, folder: Path, inputs: dict[str, cases.Arrays]) -> cases.Arrays:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        flat = {f"{case}/{key}": one for case, own in inputs.items() for key, one in own.items()}
        np.savez(place / "inputs.npz", **flat)  # type: ignore[arg-type]
        files = (
            FILES / "check.py",
            folder / form.PROGRAM,
            folder,
            place / "inputs.npz",
            place / "found.npz",
        )
        paths = [str(one.absolute()) for one in files]
        # Offline, on the CPU, and with caches of its own: the export must need nothing else.
        own = {"HF_HOME": name, "HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
        ended = subprocess.run(
            [sys.executable, "-I", "-B", *paths, *form.ABSENT],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if ended.returncode != 0:
            last = "\n".join(ended.stderr.strip().splitlines()[-_LINES:])
            msg = f"the export cannot be used in a fresh process (exit code {ended.returncode}): "
            raise ExportError(f"{msg}nothing is written\n{last}")
        with np.load(place / "found.npz") as stored:
            return dict(stored)
