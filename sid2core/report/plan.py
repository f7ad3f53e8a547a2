"""The tables of the plan: the network by level, its FLOPs and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sid2core.report import formatting
from sid2core.report.read.plan_files import Plan
from sid2core.report.tables import Cell, Row, Table

_STATE = {
    "adam": "Adam’s two moments take",
    "adamw": "Adam’s two moments take",
    "muon": "the optimiser’s state take at most",
}
"""What training keeps beside weights and average. The plan counts two moments of each parameter;
Muon has one of each matrix."""
_KINDS = {"res": "residual", "transformer": "Transformer"}
BACKWARD = 2
"""Cost of a backward pass in forward passes; a training step is three (SiD2 supplement B.3)."""


def view(plan: Plan, batch_size: int, optimiser: str) -> dict[str, Any]:
    """The values of the template's section; ``optimiser`` is the name of the one in use."""
    counted = plan.terms["gflops"].tolist()
    return {
        **plan.numbers,
        "training_gflops": 1e12 * plan.numbers["training_zettaflops"],
        "state": _STATE[optimiser],
        "levels": level_table(plan),
        "terms": term_table(plan),
        "remat": remat_table(plan, batch_size),
        "parts": sum(counted[:-1]),
        "parts_share": _share(sum(counted[:-1]), counted[-1]),
        "blocks_share": _share(plan.numbers["gflops_forward"], plan.numbers["gflops_forward_xla"]),
    }


def level_table(plan: Plan) -> Table:
    """The levels, finest first, and their share of the whole network."""
    levels, whole = plan.levels, plan.numbers
    costs = [*levels["gflops"], whole["gflops_forward"]]
    unit, name = formatting.flops_unit(costs)
    columns = {
        "blocks of kind": [*(_KINDS[kind] for kind in levels["kind"]), ""],
        "channels": [*map(formatting.count, levels["channels"]), ""],
        "grid": [*(grid.replace("x", " × ") for grid in levels["grid"]), ""],
        "blocks": [*map(formatting.count, levels["blocks"]), formatting.count(sum(levels.blocks))],
        "parameters": [
            formatting.count(value) for value in (*levels["parameters"], whole["parameters"])
        ],
        name: formatting.column([cost / unit for cost in costs]),
        "share": [formatting.percent(_share(cost, costs[-1])) for cost in costs],
    }
    last = len(levels) - 1
    places = {0: "0, finest", last: f"{last}, middle"}
    names = [places.get(level, str(level)) for level in range(len(levels))]
    return _rows("level", [*names, "whole network"], columns)


def term_table(plan: Plan) -> Table:
    """The parts of a forward pass; the last row is XLA's count of the whole."""
    costs = plan.terms["gflops"].tolist()
    unit, name = formatting.flops_unit(costs)
    columns = {
        name: formatting.column([cost / unit for cost in costs]),
        "share": [formatting.percent(_share(cost, costs[-1])) for cost in costs],
    }
    return _rows("part of a forward pass", plan.terms["term"].tolist(), columns)


def remat_table(plan: Plan, batch_size: int) -> Table:
    """Memory kept for the backward pass, for each way to compute activations again."""
    kept, forwards = plan.remat["activation_mib_image"], plan.remat["forwards"]
    columns = {}
    for what, values in (
        ("per example", kept.tolist()),
        (f"per batch of {formatting.count(batch_size)}", (batch_size * kept).tolist()),
    ):
        unit, name = formatting.memory_unit(values)
        columns[f"{name} kept {what}"] = formatting.column([value / unit for value in values])
    columns["forward passes per step"] = [formatting.plain(value) for value in forwards]
    columns["with the backward pass"] = [formatting.plain(value + BACKWARD) for value in forwards]
    return _rows("computed again", plan.remat["remat"].tolist(), columns, total=False)


def _rows(
    corner: str, names: Sequence[str], columns: dict[str, list[str]], total: bool = True
) -> Table:
    """A table of texts; with ``total`` the last row is marked as the total."""
    kinds = [""] * (len(names) - 1) + ["total" if total else ""]
    cells = zip(*columns.values(), strict=True)
    return Table(
        corner,
        tuple(columns),
        tuple(
            Row(name, tuple(Cell(text) for text in texts), kind)
            for name, texts, kind in zip(names, cells, kinds, strict=True)
        ),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
