"""The guidance search on the page: the race, heat maps over two axes, and all settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sid2core.report import formatting
from sid2core.report.charts import svg
from sid2core.report.charts.svg import INK, MUTED, SERIES, WIDTH
from sid2core.report.read.search_files import Search, Setting
from sid2core.report.tables import Cell, Row, Table

AXES = ("weight", "interval", "negative", "average", "sampler", "steps")
"""Of the heat maps, in this order."""
_ROWS = 24
"""Settings that the race shows, best first."""
_MOST = 28
"""Characters of a name."""
_WRAPPED = 10
"""Characters of a label that fit above a column of the usual width."""
_CHARACTER = 0.075
"""Inches that a character of a label takes at most, on average."""


@dataclass(frozen=True)
class _Map:
    """A heat map over two axes, of the best among the settings that share both values."""

    x: str
    y: str
    columns: Sequence[Any]
    rows: Sequence[Any]
    cells: Mapping[tuple[Any, Any], Setting]


def view(search: Search) -> Mapping[str, Any]:
    """What the template shows."""
    return {
        "table": table(search),
        "distance": formatting.metric(search.distance),
        "best": search.best,
        "best_words": words(search.best, search.varied),
        "guided_words": None if search.guided is None else words(search.guided, search.varied),
        "kept": sum(one.kept for one in search.settings),
        "settings": len(search.settings),
        "images": search.images,
        "grid_images": int(max(one.samples for one in search.settings)) * len(search.settings),
        "confidence": search.confidence,
        "race": Markup(race(search)) if len(search.settings) > 1 else None,
        "heat_maps": [Markup(heat_map(search, one)) for one in _maps(search)],
    }


def words(setting: Setting, varied: Collection[str] = ()) -> str:
    """A setting in words, without what is usual; sampler and steps where they are ``varied``."""
    if setting.weight == 0:
        text = "no guidance"
    else:
        text = f"weight {formatting.plain(setting.weight)} on {setting.interval}"
        if setting.negative != "unconditional":
            text += f" away from {_short(setting.negative)}"
    if setting.average != "usual":
        text += f", average {setting.average}"
    if "sampler" in varied:
        text += f", {setting.sampler}"
    return f"{text}, {formatting.steps(setting.steps)}" if "steps" in varied else text


def table(search: Search) -> Table:
    """All settings: those that were kept by their distance, then the others, latest first."""
    ordered = _ordered(search)
    agreement = formatting.column([100 * one.agreement for one in ordered])
    classes = any(math.isfinite(one.agreement) for one in ordered)
    means = formatting.column([one.fd_train for one in ordered])
    excesses = formatting.column([one.excess for one in ordered])
    rows = [
        Row(
            words(one, search.varied),
            (
                Cell(means[i], one is search.best),
                Cell(_range(one.fd_train_low, one.fd_train_high)),
                Cell(excesses[i]),
                Cell(_range(one.excess_low, one.excess_high)),
                *([Cell(_percent(agreement[i]))] if classes else []),
                Cell(formatting.count(one.samples)),
                Cell(formatting.count(one.nfe)),
                Cell(_rank(one, search)),
            ),
            "best" if one is search.best else "",
        )
        for i, one in enumerate(ordered)
    ]
    searched = formatting.metric(f"{search.distance}_train")
    interval = f"{100 * search.confidence:g}% interval"
    headings = (
        *(searched, interval, "difference to the best", "its interval"),
        *(["class agreement"] if classes else []),
        *("samples", "NFE", "rank"),
    )
    return Table("setting", headings, tuple(rows))


def race(search: Search) -> str:
    """The difference to the best setting with its interval, one line a setting."""
    shown = _ordered(search)[:_ROWS]
    labels = [f"{words(one, search.varied)}  ({formatting.count(one.samples)})" for one in shown]
    width = max(1.6 * WIDTH, 3 + _CHARACTER * max(map(len, labels)))

    def draw(axes: Axes) -> None:
        for row, one in enumerate(shown):
            colour = SERIES[0] if one.kept else MUTED
            axes.plot([one.excess_low, one.excess_high], [row, row], color=colour, linewidth=2)
            axes.plot([one.excess], [row], "o", color=colour, markersize=5)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(shown)), labels, fontsize=9.5)
        axes.set(
            ylim=(len(shown) - 0.5, -0.5), xlabel="difference to the best setting of its round"
        )
        axes.grid(visible=False, axis="y")

    kept = sum(one.kept for one in search.settings)
    title = (
        f"The race of {len(search.settings)} settings: difference to the best with its interval; "
        f"{kept} cannot be distinguished from the best"
    )
    return svg.render("race", title, draw, (width, max(1.6, 0.9 + 0.24 * len(shown))))


def heat_map(search: Search, found: _Map) -> str:
    """The difference to the best, one cell per pair of values, stronger where it is smaller."""
    scores = [one.excess for one in found.cells.values() if math.isfinite(one.excess)]
    low, high = min(scores, default=0.0), max(scores, default=1.0)

    def draw(axes: Axes) -> None:
        for (x, y), one in found.cells.items():
            corner = found.columns.index(x) - 0.5, found.rows.index(y) - 0.5
            value = one.excess if math.isfinite(one.excess) else high
            strength = 0.06 + 0.46 * _closeness(value, low, high)
            axes.add_patch(Rectangle(corner, 1, 1, color=SERIES[0], alpha=strength, linewidth=0))
            _cell(axes, one, corner, search)
        axes.set(xlim=(-0.5, len(found.columns) - 0.5), ylim=(len(found.rows) - 0.5, -0.5))
        axes.set_xticks(range(len(found.columns)), map(_label, found.columns))
        axes.set_yticks(range(len(found.rows)), map(_label, found.rows))
        axes.set(xlabel=_heading(found.x), ylabel=_heading(found.y))
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    title = f"Difference to the best by {_heading(found.x)} and {_heading(found.y)}; best at "
    width, beside = (_CHARACTER * _longest(values) for values in (found.columns, found.rows))
    width = 0.6 + beside + max(0.8, width + 0.2) * len(found.columns)
    size = max(WIDTH, width), max(1.8, 0.8 + 0.55 * len(found.rows))
    return svg.render(
        f"guidance-{found.x}-{found.y}", title + words(search.best, search.varied), draw, size
    )


def _maps(search: Search) -> list[_Map]:
    """Of every two axes with several values; weight 0 has no interval and no negative."""
    made = []
    for x, y in itertools.combinations([axis for axis in AXES if axis in search.varied], 2):
        cells: dict[tuple[Any, Any], Setting] = {}
        for one in search.settings:
            place = getattr(one, x), getattr(one, y)
            if place not in cells or one.excess < cells[place].excess:
                cells[place] = one
        columns = _values(x, (place[0] for place in cells))
        rows = _values(y, (place[1] for place in cells))
        if _longest(columns) > max(_WRAPPED, _longest(rows)):
            x, y, columns, rows = y, x, rows, columns
            cells = {place[::-1]: one for place, one in cells.items()}
        made.append(_Map(x, y, columns, rows, cells))
    return made


def _values(axis: str, found: Iterable[Any]) -> list[Any]:
    values = [*dict.fromkeys(found)]
    return sorted(values) if axis in ("weight", "steps") else values


def _ordered(search: Search) -> list[Setting]:
    def late(one: Setting) -> tuple[Any, ...]:
        return not one.kept, -one.samples, math.isnan(one.excess), one.excess

    return sorted(search.settings, key=late)


def _rank(one: Setting, search: Search) -> str:
    if one is search.best:
        return "chosen"
    text = "best guidance" if one is search.guided else ""
    return ", ".join(filter(None, [text, "not distinguishable" if one.kept else ""]))


def _range(low: float, high: float) -> str:
    decimals = formatting.decimals_for([high - low], 2)
    return f"{formatting.fixed(low, decimals)} to {formatting.fixed(high, decimals)}"


def _percent(text: str) -> str:
    return text if text == formatting.NOTHING else f"{text}%"


def _label(value: Any) -> str:
    """A value at an axis, one line for each of its words."""
    text = formatting.plain(value) if isinstance(value, float) else _short(str(value))
    return text if text.startswith("(") else text.replace(" ", "\n")


def _short(text: str) -> str:
    """A long name, such as a folder's, cut at its beginning."""
    return text if len(text) <= _MOST else f"\u2026{text[1 - _MOST :]}"


def _longest(values: Iterable[Any]) -> int:
    """Characters of the longest line among labels."""
    return max(len(line) for value in values for line in _label(value).split("\n"))


def _heading(axis: str) -> str:
    return {"weight": "guidance weight", "interval": "log-SNR interval"}.get(axis, axis)


def _closeness(score: float, low: float, high: float) -> float:
    """1 at the lowest score, 0 at the highest."""
    return 1.0 if high <= low else (high - score) / (high - low)


def _cell(axes: Axes, one: Setting, corner: tuple[float, float], search: Search) -> None:
    """The score, the samples behind it, and a frame around what was kept."""
    best = one is search.best
    if best or one.kept:
        inner, style = (corner[0] + 0.03, corner[1] + 0.04), "solid" if best else (0, (3, 2))
        axes.add_patch(
            Rectangle(inner, 0.94, 0.92, fill=False, edgecolor=INK, linewidth=1.4, linestyle=style)
        )
    note = f"{formatting.count(one.samples)} samples"
    for text, offset, size in ((formatting.significant(one.excess), 6, 10), (note, -7, 8)):
        axes.annotate(
            text,
            (corner[0] + 0.5, corner[1] + 0.5),
            xytext=(0, offset),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold" if best else "normal",
        )
