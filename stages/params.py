"""params: check every key of params.yaml, before anything else and within a second."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("params")

from pathlib import Path

from sid2core import atomic, config
from sid2core.config import checks
from sid2core.pipeline import stage

CHECKED = Path("artifacts/params.ok")


def main(params: config.Params) -> None:
    """Check what sections must have in common, and write a file whose content never changes.

    Each key was checked when ``params`` was read. Later stages wait for the check, not for values.
    """
    checks.check(params)
    atomic.write_text(CHECKED, "every key of params.yaml is known, typed and within bounds\n")


if __name__ == "__main__":
    stage.run("params", main)
