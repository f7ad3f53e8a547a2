"""This run beside published models: Table 5 of the supplement, and its Figure 16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sid2core.report import formatting, published
from sid2core.report.charts import figures
from sid2core.report.read.inputs import Inputs, Sampler
from sid2core.report.scores import RATIO
from sid2core.report.tables import Cell, Row, Table

_COLUMNS = ("NFE", "inference cost", "sampling cost", "sampling time", "FID", "fd eval", RATIO)


def view(inputs: Inputs) -> dict[str, Any]:
    """The values of the template's section."""
    gflops = inputs.plan.numbers["gflops_forward"]
    return {
        "table": table(inputs.samplers, inputs.params.data.source.name),
        "figure16": Markup(figures.forward_cost(published.figure_16(), gflops)),
        "quoted": published.QUOTED,
    }


def table(samplers: Sequence[Sampler], data: str) -> Table:
    """Table 5 as printed, then SiD2's guided models, then the samplers of this run."""
    return Table(
        "method",
        _COLUMNS,
        (
            _heading(f"ImageNet 512, {published.SUPPLEMENT}"),
            *map(_printed, published.TABLE_5),
            _heading("SiD2 with guidance"),
            *map(_guided, published.GUIDED),
            _heading(f"This run, on {data}"),
            *map(_own, samplers),
        ),
    )


def _heading(text: str) -> Row:
    return Row(text, (), "group")


def _printed(row: published.Printed) -> Row:
    costs = _unit(row.gflops, "GFLOPs"), _unit(row.tflops, "TFLOPs"), _unit(row.seconds, "s")
    return _row(row.method, row.nfe, *costs, row.fid, "", "")


def _guided(row: published.Guided) -> Row:
    name = f"SiD2 {row.model}, ImageNet {row.resolution}"
    gflops, fid = f"{row.gflops:.1f} GFLOPs", f"{row.fid:.2f}"
    return _row(name, published.GUIDED_NFE, gflops, "", "", fid, "", "")


def _own(sampler: Sampler) -> Row:
    """A row of this run: without FID, and without a time, which is not reproducible."""
    costs = formatting.flops(sampler.gflops_forward), formatting.flops(sampler.gflops_image)
    fds = [formatting.significant(fd) for fd in (sampler.fd_eval, sampler.fd_eval_ratio)]
    return _row(sampler.title, formatting.count(sampler.nfe), *costs, "", "", *fds)


def _unit(number: str, unit: str) -> str:
    return f"{number} {unit}" if number else ""


def _row(name: str, *texts: str) -> Row:
    return Row(name, tuple(Cell(text or formatting.NOTHING) for text in texts))
