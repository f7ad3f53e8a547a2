"""Which stages an edit will run again, and which modules or packages are the reason.

Compares the program of each stage with what ``dvc repro`` recorded last in ``artifacts/code``.
"""

from __future__ import annotations

import json
from collections import ChainMap
from pathlib import Path

from sid2core.pipeline import code, dag


def changed(root: Path = Path()) -> dict[str, list[str]]:
    """Stage → what differs in its program; stages without a difference are absent."""
    stages, project = (
        dag.read(root / dag.FILE),
        code.Project(root, code.plugins(root / code.PARAMS)),
    )
    versions = ChainMap(code.pinned(root / code.CONSTRAINTS), code.installed())
    found = {}
    for name in stages:
        if name not in code.WITHOUT_HASH:
            path = root / code.FOLDER / f"{name}.json"
            recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            differences = project.program(name, stages, versions).differences(recorded)
            if differences:
                found[name] = differences
    return found


if __name__ == "__main__":
    lines = [f"{name}: {', '.join(reasons)}" for name, reasons in changed().items()]
    print("\n".join(lines) or "no stage: the program of each is as it was recorded")
