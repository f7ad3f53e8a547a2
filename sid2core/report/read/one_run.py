"""Whether what the page reads comes from one run: checked by what DVC recorded in ``dvc.lock``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sid2core.pipeline import recorded
from sid2core.pipeline.dag import ARTIFACTS
from sid2core.report.read.files import InputError

_REPORTS = "reports/"
_PAGE = "report"


def check(root: Path) -> None:
    """Check the reports of all stages, and the inputs that they were made from.

    Without ``dvc.lock``, and of stages that it does not have, nothing is known and nothing checked.

    Raises:
        InputError: a report is not the recorded one, or a stage was recorded with another artifact
            of an earlier stage than the present one.
    """
    stages = recorded.stages(root)
    outputs = {path: md5 for entry in stages.values() for path, md5 in _files(entry, "outs")}
    for stage, entry in stages.items():
        if stage == _PAGE:
            continue
        cure = f"run `dvc repro {stage}`"
        for path, md5 in _files(entry, "outs"):
            file = root / path
            if path.startswith(_REPORTS) and file.is_file() and recorded.md5(file) != md5:
                msg = f"{file} is not what DVC recorded of {stage}, perhaps of another run: {cure}"
                raise InputError(f"{msg}, or `dvc commit {stage}` if the stage was run by hand")
        for path, md5 in _files(entry, "deps"):
            if path.startswith(f"{ARTIFACTS}/") and outputs.get(path, md5) != md5:
                msg = f"the reports of {stage} were made from another {path} than the present one"
                raise InputError(f"{msg}: {cure}")


def _files(entry: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """The paths of a stage's ``outs`` or ``deps`` and their MD5."""
    for file in entry.get(kind, ()):
        if "md5" in file:
            yield file["path"], file["md5"]
