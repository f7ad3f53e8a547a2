"""The plan's tables: the contents of the files, in units that fit their size."""

import math

import pandas as pd
import pytest

from sid2core.report import plan
from sid2core.report.read.plan_files import Plan
from sid2core.report.tables import Table

NUMBERS = {
    "parameters": 1_243_777,
    "gflops_forward": 0.0281,
    "gflops_forward_xla": 0.0308,
    "training_zettaflops": 1.6186e-8,
    "state_mib": 18.979,
    "gradient_mib": 4.7446,
}


def made(scale: float = 1.0) -> Plan:
    """Two levels whose costs and memory are ``scale`` times those of a small model."""
    levels = pd.DataFrame(
        {
            "level": [0.0, 1.0],
            "kind": ["res", "transformer"],
            "channels": [64.0, 1280.0],
            "grid": ["16x128x128", "8x64x64"],
            "blocks": [6.0, 16.0],
            "parameters": [301_248.0, 830_464.0],
            "gflops": [0.0107 * scale, 0.0174 * scale],
        }
    )
    kept = [1.375 * scale, 0.5 * scale, 0.25 * scale]
    remat = pd.DataFrame(
        {
            "remat": ["none", "blocks", "full"],
            "activation_mib_image": kept,
            "forwards": [1.0, 2.0, 3.0],
        }
    )
    terms = pd.DataFrame(
        {
            "term": ["blocks, by B.3", "projections", "XLA's count"],
            "gflops": [0.0281 * scale, 0.0011 * scale, 0.0308 * scale],
        }
    )
    scaled = {name: NUMBERS[name] * scale for name in ("gflops_forward", "gflops_forward_xla")}
    return Plan(levels, remat, terms, {**NUMBERS, **scaled})


def column(table: Table, name: str) -> list[str]:
    return [row.cells[table.columns.index(name)].text for row in table.rows]


def test_the_levels_are_those_of_the_file() -> None:
    table = plan.level_table(made())
    assert [row.name for row in table.rows] == ["0, finest", "1, middle", "whole network"]
    assert column(table, "blocks of kind") == ["residual", "Transformer", ""]
    assert column(table, "channels") == ["64", "1,280", ""]
    assert column(table, "grid") == ["16 × 128 × 128", "8 × 64 × 64", ""]
    assert column(table, "blocks") == ["6", "16", "22"]
    assert column(table, "parameters") == ["301,248", "830,464", "1,243,777"]
    assert column(table, "share") == ["38.1%", "61.9%", "100.0%"]
    assert [row.kind for row in table.rows] == ["", "", "total"]


@pytest.mark.parametrize(
    ("scale", "heading", "cells"),
    [
        (1e-3, "kFLOPs", ["10.7", "17.4", "28.1"]),
        (1.0, "MFLOPs", ["10.7", "17.4", "28.1"]),
        (23_000.0, "GFLOPs", ["246", "400", "646"]),
        (230_000.0, "TFLOPs", ["2.46", "4.00", "6.46"]),
    ],
)
def test_costs_have_the_unit_of_the_network(scale: float, heading: str, cells: list[str]) -> None:
    assert column(plan.level_table(made(scale)), heading) == cells


def test_a_network_of_one_level_is_its_middle() -> None:
    whole = made()
    single = Plan(whole.levels[:1], whole.remat, whole.terms, whole.numbers)
    assert [row.name for row in plan.level_table(single).rows] == ["0, middle", "whole network"]


def test_the_parts_are_shares_of_the_last() -> None:
    table = plan.term_table(made())
    assert [row.name for row in table.rows] == ["blocks, by B.3", "projections", "XLA's count"]
    assert column(table, "MFLOPs") == ["28.1", "1.1", "30.8"]
    assert column(table, "share") == ["91.2%", "3.6%", "100.0%"]
    assert table.rows[-1].kind == "total"


@pytest.mark.parametrize(
    ("scale", "headings", "one", "batch"),
    [
        (1.0, ("MiB", "MiB"), ["1.375", "0.500", "0.250"], ["88.0", "32.0", "16.0"]),
        (100.0, ("MiB", "GiB"), ["137.5", "50.0", "25.0"], ["8.59", "3.12", "1.56"]),
    ],
)
def test_memory_of_an_example_and_of_a_batch(
    scale: float, headings: tuple[str, str], one: list[str], batch: list[str]
) -> None:
    table = plan.remat_table(made(scale), 64)
    assert [row.name for row in table.rows] == ["none", "blocks", "full"]
    assert column(table, f"{headings[0]} kept per example") == one
    assert column(table, f"{headings[1]} kept per batch of 64") == batch
    assert column(table, "forward passes per step") == ["1", "2", "3"]
    assert column(table, "with the backward pass") == ["3", "4", "5"]
    assert {row.kind for row in table.rows} == {""}


def test_the_numbers_of_the_view() -> None:
    view = plan.view(made(), 64, "adam")
    assert {name: view[name] for name in NUMBERS} == NUMBERS
    assert view["training_gflops"] == pytest.approx(16_186)
    assert view["parts"] == pytest.approx(0.0292)
    assert view["parts_share"] == pytest.approx(0.0292 / 0.0308)
    assert view["blocks_share"] == pytest.approx(0.0281 / 0.0308)


def test_zero_cost_has_no_share() -> None:
    view = plan.view(made(0.0), 64, "adam")
    assert math.isnan(view["parts_share"])
    assert column(view["terms"], "share") == ["–", "–", "–"]
