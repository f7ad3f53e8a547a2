"""The low-bit view's figures: every curve once, named, in the page's colours."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from sid2core.report import low_bit
from tests.report import synthetic

TABLES = {name.removeprefix("analysis/"): table for name, table in synthetic.low_bit().items()}
LABELS = {"name": "figure12", "y": "weighted eps error"}


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter("text")]


def figures() -> dict[str, str]:
    names = {"sigmoid_weighted": "weighted", "mixture": "mixed"}
    return {
        "figure11": low_bit.precisions(TABLES["figure11"]),
        "figure12": low_bit.curves(TABLES["figure12"], names, LABELS),
    }


def lines(svg: str) -> list[np.ndarray]:
    """The points of each drawn curve but the legend's, in the figure's units with y upwards."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="[^"]*stroke: var\(--series', svg)
    points = [np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float) for path in paths]
    return [part * [1, -1] for part in points if len(part) > 3]


def test_each_precision_is_drawn_and_named() -> None:
    svg = figures()["figure11"]
    # The axes' own numbers come first.
    assert texts(svg)[-8:] == list("12345678")
    drawn = lines(svg)
    assert len(drawn) == 8
    # Fewer bits never have more error, and are drawn no higher.
    areas = [np.trapezoid(part[:, 1] - part[:, 1].min(), part[:, 0]) for part in drawn]
    assert areas == sorted(areas)


def test_both_curves_are_drawn_and_named() -> None:
    svg = figures()["figure12"]
    assert {"weighted", "mixed", "log-SNR", "weighted eps error"} <= set(texts(svg))
    first, second = lines(svg)
    table = TABLES["figure12"]
    for part, curve in ((first, "sigmoid_weighted"), (second, "mixture")):
        values = table[table["curve"] == curve]["value"]
        assert np.corrcoef(np.interp(_grid(part), *part.T), _at(values))[0, 1] > 0.999
    # Told apart without colour too.
    assert svg.count("stroke-dasharray") >= 1


def _grid(part: np.ndarray) -> np.ndarray:
    return np.linspace(part[0, 0], part[-1, 0], 200)


def _at(values: pd.Series) -> np.ndarray:
    return np.interp(np.linspace(0, 1, 200), np.linspace(0, 1, len(values)), values)


@pytest.mark.parametrize("name", ["figure11", "figure12"])
def test_they_take_every_colour_from_the_page(name: str) -> None:
    svg = figures()[name]
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000", "#ffffff"}
    assert svg == figures()[name]


def test_one_precision_that_never_falls_is_drawn() -> None:
    table = TABLES["figure11"]
    rising = table[(table["bits"] == 8) & (table["logsnr"] < 0)]
    assert "8" in texts(low_bit.precisions(rising))
