"""Numbers as text."""

import math

import pytest

from sid2core.report import formatting


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234.5678, 1, "1,234.6"),
        (-0.5, 2, "−0.50"),
        (-0.0001, 2, "0.00"),
        (math.nan, 2, "–"),
        (math.inf, 2, "–"),
    ],
)
def test_fixed(value: float, decimals: int, text: str) -> None:
    assert formatting.fixed(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.4, "1,234"), (12.34, "12.3"), (0.012345, "0.0123"), (0, "0"), (-2.5, "−2.50")],
)
def test_significant(value: float, text: str) -> None:
    assert formatting.significant(value) == text


def test_a_column_has_the_same_number_of_decimals() -> None:
    assert formatting.column([1.234, 12.3, math.nan, 0.05]) == ["1.23", "12.30", "–", "0.05"]


@pytest.mark.parametrize(
    ("gflops", "text"),
    [
        (1.28e-5, "12.8 kFLOPs"),
        (0.0281, "28.1 MFLOPs"),
        (652.8, "653 GFLOPs"),
        (10444.8, "10.4 TFLOPs"),
        (2.4e9, "2.40 EFLOPs"),
        (2.74e12, "2.74 ZFLOPs"),
        (math.nan, "–"),
    ],
)
def test_flops(gflops: float, text: str) -> None:
    assert formatting.flops(gflops) == text


@pytest.mark.parametrize(
    ("mib", "text"),
    [
        (0.0834, "85.4 KiB"),
        (18.979, "19.0 MiB"),
        (4936.5, "4.82 GiB"),
        (2.5 * 1024**2, "2.50 TiB"),
        (math.nan, "–"),
    ],
)
def test_memory(mib: float, text: str) -> None:
    assert formatting.memory(mib) == text


def test_a_column_of_memory_has_the_unit_of_its_largest() -> None:
    assert formatting.memory_unit([0.5, 3000.0, math.nan]) == (1024.0, "GiB")


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((-3, 5), "(−3, 5)"),
        ((-1.5, 5), "(−1.5, 5)"),
        ((math.nan, math.nan), "whole range"),
        ((math.nan, 5), "(−∞, 5)"),
    ],
)
def test_interval(ends: tuple[float, float], text: str) -> None:
    assert formatting.interval(*ends) == text
