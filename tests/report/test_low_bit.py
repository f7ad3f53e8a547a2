"""The figures of the low-bit view: every curve once, with its name, in the page's colours."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.report import low_bit, page
from sid2core.report.read import inputs
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
    # Distinguishable without colour.
    assert svg.count("stroke-dasharray") >= 1


def _grid(part: np.ndarray) -> np.ndarray:
    return np.linspace(part[0, 0], part[-1, 0], 200)


def _at(values: pd.Series) -> np.ndarray:
    return np.interp(np.linspace(0, 1, 200), np.linspace(0, 1, len(values)), values)


@pytest.mark.parametrize("name", ["figure11", "figure12"])
def test_colours_come_from_the_page(name: str) -> None:
    svg = figures()[name]
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000", "#ffffff"}
    assert svg == figures()[name]


def test_one_precision_that_never_falls_is_drawn() -> None:
    table = TABLES["figure11"]
    rising = table[(table["bits"] == 8) & (table["logsnr"] < 0)]
    assert "8" in texts(low_bit.precisions(rising))


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> inputs.Inputs:
    root = synthetic.write(tmp_path_factory.mktemp("low_bit"))
    return inputs.read(synthetic.params(), root)


def with_loss(read: inputs.Inputs, name: str, **given: float) -> inputs.Inputs:
    """The inputs of the page for another loss: its parameters, and the sub-bands of power."""
    raw = synthetic.raw_params()
    loss = raw["diffusion"]["loss"]
    loss |= {"name": name, name: loss.get(name, {}) | given}
    table = read.low_bit.weighting
    for band in ("LH", "HL", "HH") if given.get("levels") else ():
        part = table[table["curve"] == "weight"]
        table = pd.concat([table, part.assign(curve=f"weight_{band}", value=part["value"] / 4)])
    return replace(read, params=config.parse(raw), low_bit=replace(read.low_bit, weighting=table))


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("sigmoid", {"bias": 4.0}, "bias 4 in use corresponds to 8.2 for a single value."),
        # 2 log(64 / 8)
        ("edm", {}, "for 8 it is shifted by 2 log(64 / 8) = 4.2."),
        ("edm_monotonic", {}, "2 log(64 / 8) = 4.2, and flat below its peak."),
        ("elbo", {}, "every log-SNR has the same weight."),
        ("low_bit", {}, "shifted by 2 log 8 from a single value to the image."),
        ("power", {"bias": -1.0, "levels": 1}, "2^l sigmoid(−1 − l log 2 − log-SNR)"),
        ("power", {"bias": -1.0, "levels": 0}, "Haar sub-bands (levels: 0)"),
        (
            "sigmoid",
            {"bias": -3.0, "bias_start": -8.0, "bias_steps": 100_000},
            "moves to this value from −8 over the first 100,000 steps (SiD2 supplement C.2)",
        ),
        (
            "power",
            {"bias": -3.0, "levels": 1, "bias_start": -6.5, "bias_steps": 9},
            "moves to this value from −6.5 over the first 9 steps",
        ),
    ],
)
def test_every_loss_is_described(
    read: inputs.Inputs, name: str, given: dict[str, float], words: str
) -> None:
    view = low_bit.view(with_loss(read, name, **given))
    assert words in view["loss"]
    drawn = texts(view["weights"])
    assert "EDM, made monotonic" in drawn
    if given.get("levels"):
        assert {"power, in use: LL", "power: HH"} <= set(drawn)
        assert len(lines(view["weights"])) == 3
    else:
        assert f"{name.replace('_', ' ')}, in use" in drawn
        assert len(lines(view["weights"])) == 2


def test_the_page_describes_the_loss(read: inputs.Inputs) -> None:
    text = page.build(with_loss(read, "power", bias=-1.0, levels=1))
    assert "The power loss splits the error into Haar sub-bands (levels: 1)" in text
