"""Names beside the points of a chart, none over another."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from sid2core.report.charts.svg import MUTED

_SIZE = 9
_MARK = 5
"""Pixels from the centre of a mark that no name covers."""
_NEAR = 30
"""Points of distance from which a thin line joins a name to its mark."""

_OFFSETS = sorted(
    itertools.product((8, -8, 40, -40, 90, -90), range(-180, 181, 9)),
    key=lambda at: (abs(at[0]) + abs(at[1]), -at[0], -at[1]),
)
"""From a point to the near end of its name, in points, the nearest first."""


def marks(axes: Axes, points: Iterable[tuple[float, float]]) -> list[Bbox]:
    """The boxes of marks at data coordinates, once everything but names is drawn."""
    _draw(axes)
    corners = [axes.transData.transform(point) for point in points]
    return [Bbox.from_extents(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in corners]


def place(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    taken: Sequence[Bbox] = (),
    avoid: Sequence[Bbox] = (),
) -> list[Bbox]:
    """Write each point's name at the nearest free place inside the axes.

    A name without any free place is left out.

    Args:
        axes: with all else drawn, so that its limits are final.
        points: data coordinates and name.
        taken: boxes in pixels that names never cover; those of the points' marks are added.
        avoid: boxes that names do not cover if there is another place.

    Returns:
        The boxes of the names.
    """
    taken = [*taken, *marks(axes, [point[:2] for point in points])]
    found = []
    for x, y, name in points:
        label = axes.annotate(
            name, (x, y), xytext=(0, 0), textcoords="offset points", va="center", fontsize=_SIZE
        )
        extent = label.get_window_extent()
        size = extent.width, extent.height
        free = _free(axes, (x, y), size, [*taken, *avoid]) or _free(axes, (x, y), size, taken)
        if free is None:
            label.remove()
            continue
        label.set(ha="left" if free[0] > 0 else "right")
        label.xyann = free
        if max(map(abs, free)) > _NEAR:
            _join(axes, (x, y), free)
        found.append(label.get_window_extent())
        taken.append(found[-1])
    return found


def on_line(
    axes: Axes, y: float, name: str, taken: Sequence[Bbox], avoid: Sequence[Bbox] = ()
) -> list[Bbox]:
    """Write the name of a horizontal line at ``y`` above or below one of its ends.

    Returns:
        The box of the name; none if there is no free place, and the name is left out.
    """
    _draw(axes)
    ends = itertools.product(([*taken, *avoid], taken), ((0.0, "left"), (1.0, "right")), (8, -8))
    for blocked, (share, side), up in ends:
        label = axes.annotate(
            name,
            (share, y),
            xycoords=("axes fraction", "data"),
            xytext=(3 if side == "left" else -3, up),
            textcoords="offset points",
            color=MUTED,
            ha=side,
            va="center",
            fontsize=_SIZE,
        )
        box = label.get_window_extent()
        if _inside(axes, box) and not box.count_overlaps(blocked):
            return [box]
        label.remove()
    return []


def _free(
    axes: Axes, point: tuple[float, float], size: tuple[float, float], taken: Sequence[Bbox]
) -> tuple[int, int] | None:
    """The nearest offset in points at which a name of ``size`` pixels covers no box."""
    (x, y), (width, height), scale = axes.transData.transform(point), size, axes.figure.dpi / 72
    for dx, dy in _OFFSETS:
        left = x + dx * scale - (width if dx < 0 else 0)
        box = Bbox.from_bounds(left, y + dy * scale - height / 2, width, height)
        if _inside(axes, box) and not box.count_overlaps(taken):
            return dx, dy
    return None


def _inside(axes: Axes, box: Bbox) -> bool:
    return bool(axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max))


def _join(axes: Axes, point: tuple[float, float], offset: tuple[int, int]) -> None:
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    axes.annotate("", point, xytext=offset, textcoords="offset points", arrowprops=line)


def _draw(axes: Axes) -> None:
    axes.figure.canvas.draw()
