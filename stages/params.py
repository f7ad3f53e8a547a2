"""params: check every key of params.yaml, before anything else and within a second."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("params")

from pathlib import Path

from sid2core import atomic, config
from sid2core.pipeline import stage

CHECKED = Path("artifacts/params.ok")


def main(params: config.Params) -> None:
    """Write a file whose content never changes: what follows waits for the check, not for values.

    ``params`` itself is not needed: that it could be read is the result.
    """
    del params
    atomic.write_text(CHECKED, "every key of params.yaml is known, typed and within bounds\n")


if __name__ == "__main__":
    stage.run("params", main)
