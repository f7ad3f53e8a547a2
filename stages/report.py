"""report: one self-contained page of all results."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("report")

from pathlib import Path

from sid2core import config
from sid2core.atomic import write_text
from sid2core.evaluation import samplers_table
from sid2core.pipeline import stage
from sid2core.report import page
from sid2core.report.read import inputs

PAGE = Path("reports") / "index.html"


def main(params: config.Params) -> None:
    """Read what the other stages wrote, write ``reports/index.html``, warn of poor samples."""
    read = inputs.read(params, Path())
    write_text(PAGE, page.build(read))
    print(PAGE)
    far = samplers_table.warning(read.samplers, read.baseline)
    if far is not None:
        print(f"warning: {far}")


if __name__ == "__main__":
    stage.run("report", main)
