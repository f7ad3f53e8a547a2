"""Figures as SVG: colours from the page, reproducible, without external references."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from sid2core.report import published
from sid2core.report.charts import figures
from sid2core.report.read.inputs import Sampler
from tests.report import synthetic

NAN = math.nan


def sampler(title: str, fd: float, cost: float, student: bool = False) -> Sampler:
    return Sampler(title, title, 8, 0, NAN, NAN, 10, fd, fd, 1, 8, 1, cost, student)


REAL = sampler("Real images", 1.0, NAN)
STUDENT = sampler("B", 3, 9, True)
SERIES_OF_TWO = [replace(sampler(f"C{nfe}", 4 / nfe, 1), nfe=nfe, series="DDIM") for nfe in (8, 4)]
BARS = {"A": (1.5, 2.5), "C4": (0.5, 1.5)}
LABELS = {"x": "step", "y": "loss", "title": "loss over steps"}


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter("text")]


def all_figures() -> dict[str, str]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"step": np.arange(50), "loss": random.random(50) + 0.1})
    return {
        "curve": figures.curve(frame, "step", "loss", LABELS),
        "quality": figures.quality([*SERIES_OF_TWO, sampler("A", 2, 1), STUDENT], REAL, BARS),
        "distances": figures.distances(random.random(40), random.random(30)),
        "trajectory": figures.trajectory(synthetic.trajectory(400, 800)),
        "forward": figures.forward_cost(published.figure_16(), 0.008),
    }


def test_colours_come_from_the_page() -> None:
    for name, svg in all_figures().items():
        colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
        # Black is matplotlib's clip path fill, which is never painted.
        assert colours <= {"#000000", "#ffffff"}, name
        assert "var(--ink)" in svg, name


def test_there_is_no_address_and_no_date() -> None:
    for svg in all_figures().values():
        assert "http" not in svg
        assert "<metadata" not in svg
        assert "<!--" not in svg
        for target in re.findall(r'href="([^"]*)"|url\(([^)]*)\)', svg):
            assert "".join(target).startswith("#")


def test_every_reference_leads_somewhere() -> None:
    for svg in all_figures().values():
        ids = re.findall(r'\bid="([^"]*)"', svg)
        assert len(ids) == len(set(ids))
        references = set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg))
        assert references
        assert references <= set(ids)


def test_the_users_matplotlib_settings_do_not_matter() -> None:
    usual = all_figures()
    with mpl.rc_context({"font.size": 20, "axes.grid": False, "svg.fonttype": "path"}):
        assert all_figures() == usual


def test_the_trajectory_has_a_line_with_intervals_for_each_guidance() -> None:
    shown = figures.trajectory(synthetic.trajectory(400, 800))
    assert {"no guidance", "best guidance", "fd eval", "training steps"} <= set(texts(shown))
    one = figures.trajectory(synthetic.trajectory(400).head(1))
    assert "best guidance" not in texts(one)


def test_a_curve_omits_values_that_are_not_finite() -> None:
    frame = pd.DataFrame({"step": [1, 2, 3, 4], "loss": [1.0, NAN, math.inf, 0.5]})
    finite = figures.curve(frame.iloc[[0, 3]], "step", "loss", LABELS)
    assert figures.curve(frame, "step", "loss", LABELS) == finite
    empty = figures.curve(frame.assign(loss=NAN), "step", "loss", LABELS)
    assert not re.search(r"\b(nan|inf)\b", empty)


def test_a_long_curve_stays_short_and_keeps_its_spike() -> None:
    values = np.random.default_rng(1).random(50_000) + 1
    values[31_234] = 9.0
    kept = figures._extremes(values)
    assert 31_234 in kept
    assert len(kept) <= 1200
    frame = pd.DataFrame({"step": np.arange(50_000), "loss": values})
    assert len(figures.curve(frame, "step", "loss", LABELS)) < 60_000


def test_several_students_have_separate_curves() -> None:
    frame = pd.DataFrame(
        {"step": [1, 2, 1, 2], "loss": [1.0, 2, 3, 4], "student": ["a", "a", "b", "b"]}
    )
    assert {"a", "b"} <= set(texts(figures.curve(frame, "step", "loss", LABELS, "student")))


@pytest.mark.parametrize("title", [r"$\frac{", "<b>&", 'id="x" #010101 url(#y)', "]]>"])
def test_a_name_is_shown_as_it_is(title: str) -> None:
    svg = figures.quality([sampler(title, 2, 1)], REAL, {})
    assert title in texts(svg)


def test_quality_without_any_measurement() -> None:
    svg = figures.quality([sampler("A", NAN, 1)], sampler("Real", NAN, NAN), {})
    assert "A" not in texts(svg)


def test_a_series_is_named_once_and_other_samplers_at_their_marks() -> None:
    found = texts(figures.quality([*SERIES_OF_TWO, sampler("A", 2, 1), STUDENT], REAL, BARS))
    assert [found.count(name) for name in ("DDIM", "A", "B", "C4", "C8")] == [1, 1, 1, 0, 0]
    assert found.count("Real images") == 1, "the line of the real-data baseline"
    assert {"2", "4", "8"} & set(found), "ticks of a logarithmic axis are powers of two"


def test_equal_distances_are_drawn() -> None:
    found = texts(figures.distances(np.zeros(3), np.zeros(2)))
    assert [text.partition(", median 0")[0] for text in found if ", median 0" in text] == [
        "samples",
        "held-out images",
    ]


# The smallest preset, the default, values among and beside the published ones, and Kinetics.
COSTS = [1.28e-5, 0.008, 12.0, 137.4, 400.0, 652.8, 3591.0]


def marks(svg: str) -> dict[str, np.ndarray]:
    """Colour → (x, y upwards) of the points drawn in it."""
    found = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*--series-(\d)', svg)
    return {
        series: np.array([(float(x), -float(y)) for x, y, colour in found if colour == series])
        for series in "12"
    }


def own_line(svg: str) -> float:
    """The position of the vertical line of this run."""
    (found,) = re.findall(
        r'd="M ([\d.]+) [\d.]+ *\n?L \1 [\d.]+[^"]*"[^>]*dasharray[^>]*--ink', svg
    )
    return float(found)


@pytest.mark.parametrize("gflops", COSTS)
def test_a_forward_pass_is_at_its_cost(gflops: float) -> None:
    points = published.figure_16()
    svg = figures.forward_cost(points, gflops)
    drawn = np.concatenate([*marks(svg).values()])
    shown = [*(p for p in points if not p.pixels), *(p for p in points if p.pixels)]
    assert [len(part) for part in marks(svg).values()] == [3, 3]
    known = np.log([[point.gflops, point.fid] for point in shown])
    # Both axes are logarithmic: places are straight lines of the logarithms.
    for axis in (0, 1):
        assert np.corrcoef(drawn[:, axis], known[:, axis])[0, 1] > 0.99999
    slope, start = np.polyfit(known[:, 0], drawn[:, 0], 1)
    assert own_line(svg) == pytest.approx(start + slope * math.log(gflops), abs=0.5)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    assert 0 < own_line(svg) < width


@pytest.mark.parametrize("gflops", COSTS)
def test_every_published_model_is_named_once(gflops: float) -> None:
    svg = figures.forward_cost(published.figure_16(), gflops)
    for point in published.figure_16():
        assert texts(svg).count(point.method) == 1
    assert sum(text.startswith("this run: ") for text in texts(svg)) == 1


@pytest.mark.parametrize("gflops", [0.0, NAN])
def test_a_model_without_a_cost_has_no_line(gflops: float) -> None:
    svg = figures.forward_cost(published.figure_16(), gflops)
    assert "dasharray" not in svg
