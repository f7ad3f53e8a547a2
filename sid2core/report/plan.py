"""The plan, ready to be laid out: the network level by level, its FLOPs and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sid2core.report import formatting
from sid2core.report.plan_files import Plan
from sid2core.report.tables import Cell, Row, Table

_KINDS = {"res": "residual", "transformer": "Transformer"}
BACKWARD = 2
"""A backward pass costs so many forward passes: three a training step (SiD2 supplement B.3)."""


def view(plan: Plan, batch_size: int) -> dict[str, Any]:
    """What the template names in the section."""
    counted = plan.terms["gflops"].tolist()
    return {
        **plan.numbers,
        "training_gflops": 1e12 * plan.numbers["training_zettaflops"],
        "levels": level_table(plan),
        "terms": term_table(plan),
        "remat": remat_table(plan, batch_size),
        "parts": sum(counted[:-1]),
        "parts_share": _share(sum(counted[:-1]), counted[-1]),
        "blocks_share": _share(plan.numbers["gflops_forward"], plan.numbers["gflops_forward_xla"]),
    }


def level_table(plan: Plan) -> Table:
    """The levels, finest first, and what they are of the whole network."""
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
    """What a forward pass is made of; XLA's count of all of it comes last."""
    costs = plan.terms["gflops"].tolist()
    unit, name = formatting.flops_unit(costs)
    columns = {
        name: formatting.column([cost / unit for cost in costs]),
        "share": [formatting.percent(_share(cost, costs[-1])) for cost in costs],
    }
    return _rows("part of a forward pass", plan.terms["term"].tolist(), columns)


def remat_table(plan: Plan, batch_size: int) -> Table:
    """What the backward pass keeps, by how much of it is computed again."""
    kept, forwards = plan.remat["activation_mib_image"], plan.remat["forwards"]
    columns = {}
    for what, values in (
        ("an example", kept.tolist()),
        (f"a batch of {formatting.count(batch_size)}", (batch_size * kept).tolist()),
    ):
        unit, name = formatting.memory_unit(values)
        columns[f"{name} kept, {what}"] = formatting.column([value / unit for value in values])
    columns["forward passes a step"] = [formatting.plain(value) for value in forwards]
    columns["with the backward pass"] = [formatting.plain(value + BACKWARD) for value in forwards]
    return _rows("computed again", plan.remat["remat"].tolist(), columns, total=False)


def _rows(
    corner: str, names: Sequence[str], columns: dict[str, list[str]], total: bool = True
) -> Table:
    """A table of texts, the last row set apart as their ``total``."""
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
