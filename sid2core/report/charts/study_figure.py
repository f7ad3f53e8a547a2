"""The figures of a study: each seed's curve, and the mean of each variant."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from sid2core.report.charts import svg
from sid2core.report.charts.svg import HEIGHT, MUTED, SERIES, WIDTH
from sid2core.report.read.study_files import Mean, Measured

_LIGHT = {
    "--ink": "#1d2226",
    "--muted": "#5d666e",
    "--rule": "#dcd8ce",
    "--series-1": "#1a66a3",
    "--series-2": "#b9501a",
    "--series-3": "#34754a",
    "--series-4": "#75499c",
}
"""The colours of a figure outside of the page."""
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))


def figure(study: str, measured: Measured) -> str:
    """One SVG element: over training, a thin line for each seed; else a point for each seed."""
    over_steps = bool(measured.curves[0].steps)
    draw = _over_steps if over_steps else _points
    variants = list(dict.fromkeys(one.variant for one in measured.curves))
    name = re.sub(r"\W+", "-", f"study-{study}-{measured.name}")
    title = f"{measured.what} of {', '.join(variants)}: each seed and the mean over seeds"
    rows = len(variants)
    size = (1.4 * WIDTH, HEIGHT + 0.2 * rows) if over_steps else (1.4 * WIDTH, 1.0 + 0.35 * rows)
    return svg.render(name, title, lambda axes: draw(axes, measured, variants), size)


def document(element: str) -> str:
    """A file of its own from an element: with a name space and the colours of a light page."""
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', element)
    assert view is not None, "svg.render writes one"
    for name, colour in _LIGHT.items():
        element = element.replace(f"var({name})", colour)
    content = element[element.index(">") + 1 :]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{view[1]}" height="{view[2]}" '
        f'viewBox="0 0 {view[1]} {view[2]}">'
        f'<rect width="100%" height="100%" fill="#fdfcf9"/>{content}\n'
    )


def _over_steps(axes: Axes, measured: Measured, variants: list[str]) -> None:
    for number, variant in enumerate(variants):
        style = {
            "color": SERIES[number % len(SERIES)],
            "linestyle": _DASHES[number // len(SERIES) % len(_DASHES)],
        }
        for curve in measured.curves:
            if curve.variant == variant:
                axes.plot(curve.steps, curve.values, linewidth=0.7, alpha=0.55, **style)
        means = [one for one in measured.means if one.variant == variant]
        steps = [one.step or 0 for one in means]
        axes.plot(steps, [one.mean for one in means], linewidth=1.8, label=variant, **style)
    values = [value for curve in measured.curves for value in curve.values]
    if min(values) > 0 and max(values) > 4 * min(values):
        svg.log_axis(axes, "y")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="training steps", ylabel=measured.what)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(svg.tick))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, fontsize=9)


def _points(axes: Axes, measured: Measured, variants: list[str]) -> None:
    """A row for each variant: seeds as points, the mean with its interval as a bar."""
    means = {one.variant: one for one in measured.means}
    for row, variant in enumerate(variants):
        values = [one.values[0] for one in measured.curves if one.variant == variant]
        axes.plot(values, [row] * len(values), "o", color=SERIES[0], markersize=5, alpha=0.6)
        _bar(axes, means[variant], row)
    axes.set_yticks(range(len(variants)), variants)
    axes.invert_yaxis()
    axes.margins(y=0.2)
    axes.set(xlabel=measured.what)
    axes.xaxis.set_major_formatter(FuncFormatter(svg.tick))


def _bar(axes: Axes, mean: Mean, row: int) -> None:
    axes.plot([mean.mean], [row], "|", color=SERIES[1], markersize=14, markeredgewidth=2)
    if mean.low is not None and mean.high is not None:
        axes.hlines(row, mean.low, mean.high, color=MUTED, linewidth=1)
