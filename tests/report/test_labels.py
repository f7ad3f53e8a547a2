"""Names in charts: none over another, over a mark or outside of the axes."""

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from sid2core.report.charts import labels, svg


def axes_of(points: list[tuple[float, float, str]]) -> Axes:
    figure = Figure(figsize=(svg.WIDTH, svg.HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.add_subplot()
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o")
    axes.set(xscale="log", ylim=(0, 2))
    axes.margins(0.18)
    return axes


def apart(boxes: list[Bbox]) -> bool:
    return not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


CLOSE = [(8 + n / 10, 1 + n % 3 / 50, f"sampler {n}, 8 steps") for n in range(14)]
RANDOM = [
    (2**x, y, f"sampler {n}, guided")
    for n, (x, y) in enumerate(np.random.default_rng(0).uniform((1, 0.1), (7, 1.8), (14, 2)))
]


@pytest.mark.parametrize("points", [CLOSE, RANDOM], ids=["close", "random"])
def test_no_name_covers_another_or_a_mark(points: list[tuple[float, float, str]]) -> None:
    axes = axes_of(points)
    taken = labels.marks(axes, [point[:2] for point in points])
    (line,) = labels.on_line(axes, 1.6, "real training images", taken)
    boxes = labels.place(axes, points, [line])
    assert len(boxes) == len(points), "all are written"
    assert apart([line, *boxes])
    assert not any(box.count_overlaps(taken) for box in [line, *boxes])
    assert all(axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for box in boxes)
    shown = [text for text in axes.texts if text.get_text()]
    assert apart([text.get_window_extent() for text in shown]), "and so when it is drawn"


def test_a_name_without_a_free_place_is_left_out() -> None:
    axes = axes_of([(8, 1, "long " * 40)])
    assert labels.place(axes, [(8, 1, "long " * 40)]) == []
    assert [text.get_text() for text in axes.texts] == []


def test_a_name_avoids_a_line_if_it_can() -> None:
    axes = axes_of([(8, 1, "name"), (64, 1, "other")])
    labels.marks(axes, [])
    x, y = axes.transData.transform((8, 1))
    right = Bbox.from_extents(x + 6, y - 200, x + 200, y + 200)
    (box,) = labels.place(axes, [(8, 1, "name")], avoid=[right])
    assert not box.overlaps(right)
    everywhere = Bbox.from_extents(0, 0, 1e4, 1e4)
    assert len(labels.place(axes, [(8, 1, "name")], avoid=[everywhere])) == 1
