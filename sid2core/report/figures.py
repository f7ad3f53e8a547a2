"""The figures of the page, each as one inline SVG element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import NDArray

from sid2core.evaluation import samplers_table
from sid2core.evaluation.clips import clip_table
from sid2core.report import formatting, svg
from sid2core.report.published import Forward
from sid2core.report.read.inputs import Sampler
from sid2core.report.svg import HEIGHT, INK, MUTED, SERIES, WIDTH

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


def quality_cost(samplers: Sequence[Sampler], baseline: Sampler) -> str:
    """Distance to the eval split over the cost per image, one mark per sampler."""
    shown = [s for s in samplers if math.isfinite(s.fd_eval) and s.gflops_image > 0]
    unit, name = formatting.flops_unit([s.gflops_image for s in shown])

    def draw(axes: Axes) -> None:
        for student, marker, colour in ((False, "o", SERIES[0]), (True, "D", SERIES[1])):
            part = [s for s in shown if s.student is student]
            costs = [s.gflops_image / unit for s in part]
            axes.plot(costs, [s.fd_eval for s in part], marker, color=colour, markersize=7)
        if shown:
            svg.log_axis(axes, "x")
        values = [s.fd_eval for s in shown]
        if math.isfinite(baseline.fd_eval):
            values.append(baseline.fd_eval)
            axes.axhline(baseline.fd_eval, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.margins(0.18)
        if _wide(values):
            svg.log_axis(axes, "y")
        else:
            axes.set_ylim(0, 1.15 * max(values, default=1.0))
        axes.set(xlabel=f"{name} per image", ylabel="fd against eval")
        _label_points(axes, [(s.gflops_image / unit, s.fd_eval, s.title) for s in shown])
        if math.isfinite(baseline.fd_eval):
            axes.annotate(
                baseline.title,
                (0.0, baseline.fd_eval),
                xycoords=("axes fraction", "data"),
                xytext=(3, 3),
                textcoords="offset points",
                color=MUTED,
                fontsize=9,
            )

    title = f"fd against eval over {name} per image, for {len(shown)} samplers"
    return svg.render("quality-cost", title, draw)


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
        _label_points(axes, marks, gflops if gflops > 0 else None)

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


def _label_points(
    axes: Axes, points: Sequence[tuple[float, float, str]], line: float | None = None
) -> None:
    """Write each point's name beside it, at the first place without marks and other names.

    If there is room, names also avoid a vertical line at ``line``.
    """
    axes.figure.canvas.draw()
    corners = [axes.transData.transform(point[:2]) for point in points]
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in corners]
    strip = []
    if line is not None:
        middle = axes.transData.transform((line, points[0][1]))[0]
        strip = [Bbox.from_extents(middle - 1, axes.bbox.y0, middle + 1, axes.bbox.y1)]
    for x, y, name in points:
        extent = _write(axes, (x, y), name, taken + strip) or _write(axes, (x, y), name, taken)
        if extent is None:
            label = axes.annotate(
                name, (x, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9
            )
            extent = label.get_window_extent()
        taken.append(extent)


def _write(
    axes: Axes, point: tuple[float, float], name: str, taken: Sequence[BboxBase]
) -> Bbox | None:
    """Write a name beside its point and return its box; None if no place is free."""
    for dx, dy in ((dx, dy) for dy in (0, 9, -9, 18, -18, 27, -27) for dx in (8, -8)):
        label = axes.annotate(
            name,
            point,
            xytext=(dx, dy),
            textcoords="offset points",
            ha="left" if dx > 0 else "right",
            va="center",
            fontsize=9,
        )
        extent = label.get_window_extent()
        inside = axes.bbox.contains(*extent.min) and axes.bbox.contains(*extent.max)
        if inside and not extent.count_overlaps(taken):
            return extent
        label.remove()
    return None
