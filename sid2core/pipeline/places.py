"""Where the project keeps files that are no outputs."""

from __future__ import annotations

import os
from pathlib import Path


def work() -> Path:
    """``$SID2_WORK``, else ``.sid2`` in the main repository (also from a temporary experiment)."""
    explicit = os.environ.get("SID2_WORK")
    return Path(explicit) if explicit else repository() / ".sid2"


def repository() -> Path:
    """The main DVC repository: DVC names it to the stages of a temporary experiment, too."""
    return Path(os.environ.get("DVC_ROOT", "."))


def beside(kind: str, folder: Path) -> Path:
    """Where files about the run in ``folder`` are that outlive it: its place, under ``kind``."""
    root, own = work().absolute(), folder.absolute()
    place = own.relative_to(root) if own.is_relative_to(root) else Path(own.name)
    return root / kind / place
