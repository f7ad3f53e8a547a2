"""The figures of the page, each as one inline SVG element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from sid2core.evaluation import samplers_table
from sid2core.evaluation.clips import clip_table
from sid2core.report import formatting
from sid2core.report.charts import labels, svg
from sid2core.report.charts.svg import HEIGHT, INK, MUTED, SERIES, WIDTH
from sid2core.report.published import Forward
from sid2core.report.read.inputs import Sampler

SMOOTHING = 0.08
"""Width of the moving average over a curve, as a fraction of the run."""
_POINTS = 1200
_LOG_RATIO = 10.0
_CHOICES = {clip_table.MEAN: "mean of samples", clip_table.BEST: "nearest sample"}


def curve(
    frame: pd.DataFrame, x: str, y: str, labels: Mapping[str, str], group: str | None = None
) -> str:
    """``y`` over ``x``: a thin line of all logged values, a thick one of their moving average.

    Args:
        frame: one row per logged step.
        x: column of the horizontal axis.
        y: column of the vertical axis; values that are not finite are omitted.
        labels: texts for ``x``, ``y`` and ``title``; screen readers read the title.
        group: column whose values separate several curves, or None.
    """

    def draw(axes: Axes) -> None:
        parts = frame.groupby(group, sort=True) if group else [("", frame)]
        drawn = []
        for number, (name, part) in enumerate(parts):
            finite = part[np.isfinite(part[y])]
            drawn.extend(finite[y])
            colour = SERIES[number % len(SERIES)]
            smooth = _smooth(finite[y])
            raw = finite.iloc[_extremes(finite[y].to_numpy())]
            axes.plot(raw[x], raw[y], color=colour, linewidth=0.7, alpha=0.55)
            kept = np.unique(np.linspace(0, len(smooth) - 1, min(len(smooth), 300)).astype(int))
            axes.plot(
                finite[x].iloc[kept], smooth.iloc[kept], color=colour, linewidth=1.8, label=name
            )
        if len(parts) > 1:
            axes.legend()
        if _wide(drawn):
            svg.log_axis(axes, "y")
        axes.set(xlabel=labels["x"], ylabel=labels["y"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(svg.tick))

    return svg.render(f"curve-{x}-{y}", labels["title"], draw)


def quality(
    samplers: Sequence[Sampler],
    baseline: Sampler,
    intervals: Mapping[str, tuple[float, float]],
) -> str:
    """Distance to the eval split over the network evaluations of an image.

    Samplers of one series are joined by a line that the legend names, that of students is thick;
    others are named beside their mark. The real-data baseline is a horizontal line.

    Args:
        samplers: of a row each.
        baseline: real training images.
        intervals: of the distances, by the sampler's name, drawn as vertical bars.
    """
    shown = [one for one in samplers if math.isfinite(one.fd_eval) and one.nfe > 0]
    series = {name: [one for one in shown if one.series == name] for name in _several(shown)}
    single = [one for one in shown if one.series not in series]
    line = math.isfinite(baseline.fd_eval)

    def draw(axes: Axes) -> None:
        bars = [(one.nfe, *intervals[one.name]) for one in shown if one.name in intervals]
        axes.vlines([bar[0] for bar in bars], *_ends(bars), color=MUTED, linewidth=1)
        for number, (name, part) in enumerate(series.items()):
            part = sorted(part, key=lambda one: one.nfe)
            costs, values = [one.nfe for one in part], [one.fd_eval for one in part]
            own = part[0].student
            axes.plot(costs, values, label=name, **(_STUDENTS if own else _style(number)))
        for student, marker, colour in ((False, "o", SERIES[0]), (True, "D", SERIES[1])):
            part = [one for one in single if one.student is student]
            values = [one.fd_eval for one in part]
            axes.plot([one.nfe for one in part], values, marker, color=colour, markersize=7)
        if line:
            axes.axhline(baseline.fd_eval, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        values = [one.fd_eval for one in shown] + [end for bar in bars for end in bar[1:]]
        _axes_of_quality(axes, [*values, baseline.fd_eval] if line else values)
        if series:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, fontsize=9)
        taken = labels.marks(axes, [(one.nfe, one.fd_eval) for one in shown])
        ends = [axes.transData.transform([(x, low), (x, high)]) for x, low, high in bars]
        avoid = [Bbox.from_extents(x - 1, low, x + 1, high) for (x, low), (_, high) in ends]
        if line:
            taken += labels.on_line(axes, baseline.fd_eval, baseline.title, taken, avoid)
            _, level = axes.transData.transform((1.0, baseline.fd_eval))
            avoid.append(Bbox.from_extents(axes.bbox.x0, level - 1, axes.bbox.x1, level + 1))
        labels.place(axes, [(one.nfe, one.fd_eval, one.title) for one in single], taken, avoid)

    title = f"fd against eval over network evaluations per image, for {len(shown)} samplers"
    size = WIDTH, HEIGHT
    if series:
        size = 1.6 * WIDTH, 1.4 * HEIGHT + 0.2 * math.ceil(len(series) / 2)
    return svg.render("quality", title, draw, size)


def _several(samplers: Sequence[Sampler]) -> list[str]:
    """The series that have two samplers or more."""
    names = [one.series for one in samplers if one.series]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _ends(bars: Sequence[tuple[float, float, float]]) -> tuple[list[float], list[float]]:
    return [bar[1] for bar in bars], [bar[2] for bar in bars]


def _style(number: int) -> dict[str, Any]:
    """Colour, dashes and mark of a series."""
    dashes = ("-", (0, (4, 2)), (0, (1, 1.5)))
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": dashes[number // len(SERIES) % len(dashes)],
        "marker": "os^Dv"[number % 5],
        "markersize": 5,
        "linewidth": 1.2,
    }


_STUDENTS = {"color": INK, "marker": "D", "markersize": 6, "linewidth": 2.2, "zorder": 3}
"""The students' line, which must be found among those of many samplers."""


def _axes_of_quality(axes: Axes, values: Sequence[float]) -> None:
    """Scales and names of the axes."""
    axes.margins(0.18)
    if _wide(values):
        svg.log_axis(axes, "y")
    else:
        axes.set_ylim(0, 1.15 * max(values, default=1.0))
    if values:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(svg.tick))
    axes.set(xlabel="network evaluations per image", ylabel="fd against eval")


def forward_cost(points: Sequence[Forward], gflops: float) -> str:
    """FID over the cost of a forward pass, with a line at ``gflops``, the cost of this run."""
    own = f"this run: {formatting.flops(gflops)}"

    def draw(axes: Axes) -> None:
        for pixels, marker, colour in ((False, "o", SERIES[0]), (True, "D", SERIES[1])):
            part = [point for point in points if point.pixels is pixels]
            costs = [point.gflops for point in part]
            axes.plot(costs, [point.fid for point in part], marker, color=colour, markersize=6)
        axes.margins(0.12)
        if gflops > 0:
            _mark_cost(axes, gflops, own)
        svg.log_axis(axes, "x")
        svg.log_axis(axes, "y")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set(xlabel="GFLOPs per forward pass", ylabel="FID on ImageNet 512")
        marks = [(point.gflops, point.fid, point.method) for point in points]
        strip = []
        if gflops > 0:
            axes.figure.canvas.draw()
            middle = axes.transData.transform((gflops, points[0].fid))[0]
            strip = [Bbox.from_extents(middle - 1, axes.bbox.y0, middle + 1, axes.bbox.y1)]
        labels.place(axes, marks, avoid=strip)

    names = ", ".join(point.method for point in points)
    title = f"FID on ImageNet 512 over GFLOPs per forward pass, of {names}; {own}, without FID"
    return svg.render("figure16", title, draw)


def _mark_cost(axes: Axes, gflops: float, name: str) -> None:
    """A vertical line across the axes with its name above, on the side of the middle."""
    axes.axvline(gflops, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    low, high = axes.xaxis.get_data_interval()
    left = gflops * gflops < low * high
    axes.annotate(
        name,
        (gflops, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, 4),
        textcoords="offset points",
        ha="left" if left else "right",
        fontsize=9,
    )


def distances(
    samples: NDArray[np.float64], held_out: NDArray[np.float64], one: str = "image"
) -> str:
    """Histograms of the distance to the nearest training image, of samples and held-out images.

    ``one`` is what a sample is: an image or a clip.
    """
    many = f"{one}s"
    names = ("samples", f"held-out {many}")
    fewest = min(len(samples), len(held_out))
    bins = int(np.clip(math.sqrt(fewest), 8, 30))
    edges = np.histogram_bin_edges(np.concatenate([samples, held_out]), bins)

    def draw(axes: Axes) -> None:
        for values, name, colour in zip((samples, held_out), names, SERIES, strict=False):
            shares = np.histogram(values, edges)[0] / len(values)
            middle = float(np.median(values))
            label = f"{name}, median {formatting.significant(middle)}"
            axes.stairs(shares, edges, color=colour, linewidth=1.6, label=label)
            axes.stairs(shares, edges, color=colour, fill=True, alpha=0.15)
            axes.axvline(middle, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set(xlabel=f"L2 distance to the nearest training {one}", ylabel=f"share of {many}")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, fontsize=9)

    title = f"Histograms of the distance to the nearest training {one}, of " + " and ".join(names)
    return svg.render("nearest-distances", title, draw)


def error_over_time(table: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """PSNR over the frames of a clip: a colour for each sampler, dashed for its nearest sample.

    Args:
        table: rows of ``clip_error.csv``.
        titles: of the samplers.
    """
    names = [name for name in dict.fromkeys(table["sampler"]) if name != samplers_table.COPY]

    def draw(axes: Axes) -> None:
        for key, part in table.groupby(["sampler", "choice"], sort=False):
            name, choice = map(str, key)
            colour, label = MUTED, "copy of the last given frame"
            if name != samplers_table.COPY:
                colour = SERIES[names.index(name) % len(SERIES)]
                label = f"{titles[name]}, {_CHOICES[choice]}"
            nearest = choice == clip_table.BEST
            style = (
                (0, (4, 2)) if nearest else (0, (1, 1.5)) if name == samplers_table.COPY else "-"
            )
            axes.plot(
                part["frame"],
                part["psnr"],
                color=colour,
                linewidth=1.6,
                linestyle=style,
                label=label,
            )
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel="frame of the clip", ylabel="PSNR, dB")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, fontsize=9)

    title = "PSNR of predicted frames over time, of " + ", ".join(titles[name] for name in names)
    size = WIDTH, HEIGHT + 0.2 * (2 * len(names) + 1)
    return svg.render("clip-error", title, draw, size)


def trajectory(table: pd.DataFrame) -> str:
    """The distance of the snapshots over the training, with intervals; a line for each guidance.

    Args:
        table: rows of ``trajectory.csv``.
    """
    metric = table["metric"].iloc[0].replace("_", " ")

    def draw(axes: Axes) -> None:
        for (curve, part), colour in zip(table.groupby("curve", sort=False), SERIES, strict=False):
            label = str(curve).replace("_", " ")
            axes.plot(part["step"], part["value"], "o-", color=colour, markersize=5, label=label)
            axes.vlines(part["step"], part["low"], part["high"], color=colour, linewidth=1.2)
        if _wide([*table["value"]]):
            svg.log_axis(axes, "y")
        axes.set(xlabel="training steps", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(svg.tick))
        axes.legend()

    return svg.render("trajectory", f"{metric} of the snapshots over the training", draw)


def _smooth(values: pd.Series) -> pd.Series:
    window = max(1, round(SMOOTHING * len(values)))
    return values.rolling(window, center=True, min_periods=1).mean()


def _extremes(values: np.ndarray) -> np.ndarray:
    """Indices of the lowest and the highest value of each short interval, so no spike is lost."""
    if len(values) <= _POINTS:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), _POINTS // 2)
    ends = [part[pick(values[part])] for part in stretches for pick in (np.argmin, np.argmax)]
    return np.unique(ends)


def _wide(values: Sequence[float]) -> bool:
    """Whether positive values differ by a factor large enough for a logarithmic axis."""
    return bool(len(values)) and min(values) > 0 and max(values) / min(values) > _LOG_RATIO
