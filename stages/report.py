"""report: one self-contained page of all results."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("report")

from pathlib import Path

from sid2core import config
from sid2core.atomic import write_text
from sid2core.pipeline import stage
from sid2core.report import page
from sid2core.report.read import inputs

PAGE = Path("reports") / "index.html"


def main(params: config.Params) -> None:
    """Read what the other stages wrote and write ``reports/index.html``."""
    write_text(PAGE, page.build(inputs.read(params, Path())))
    print(PAGE)


if __name__ == "__main__":
    stage.run("report", main)
