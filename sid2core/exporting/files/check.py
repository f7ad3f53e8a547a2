"""Run an exported model on stored inputs, in a process that has nothing else.

    python -I check.py PROGRAM FOLDER INPUTS OUTPUTS PACKAGE …

The packages cannot be imported. ``PROGRAM`` is a file with ``load(folder)``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Without:
    """A finder of modules that does not find those of some packages."""

    def __init__(self, finder: Any, packages: Sequence[str]):
        self.finder, self.packages = finder, packages

    def __getattr__(self, name: str) -> Any:
        """All else is the finder's."""
        return getattr(self.finder, name)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """None as if the package were not installed, so that libraries do without it."""
        if name.partition(".")[0] in self.packages:
            return None
        return self.finder.find_spec(name, path, target)


def main(program: str, folder: str, inputs: str, outputs: str, *absent: str) -> None:
    """Write the array of each case: inputs ``network/z`` and so on give the output ``network``."""
    sys.meta_path[:] = [Without(finder, absent) for finder in sys.meta_path]
    sys.path.insert(0, str(Path(program).parent))  # as `python program` does
    spec = importlib.util.spec_from_file_location("program", program)
    if spec is None or spec.loader is None:
        raise ImportError(program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load(Path(folder))
    cases: dict[str, dict[str, Any]] = {}
    with np.load(inputs) as stored:
        for name in stored.files:
            case, _, argument = name.partition("/")
            cases.setdefault(case, {})[argument] = stored[name]
    found = {case: getattr(model, case)(**arguments) for case, arguments in cases.items()}
    used = set(absent) & {name.partition(".")[0] for name in sys.modules}
    if used:
        raise ImportError(f"imported {', '.join(sorted(used))}, which the export must not need")
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
