"""Inline SVG with the colours and the font of the page.

Text stays text and every colour is a CSS variable, so one figure fits a light screen, a dark
screen and paper. The bytes depend on the data only.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK, MUTED, RULE = "#010101", "#020202", "#030303"
SERIES = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)},
}
"""Placeholder colours for matplotlib, and the CSS variable that replaces each."""

WIDTH, HEIGHT = 4.6, 2.9
"""Inches; narrow enough for legible text on a phone."""
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sid2core",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": "none",
    "legend.frameon": False,
}


def render(
    name: str,
    title: str,
    draw: Callable[[Axes], None],
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> str:
    """Draw on new axes, independent of the user's matplotlib settings; returns the element."""
    with matplotlib.style.context(_STYLE, after_reset=True):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, title)


def _inline(document: str, name: str, title: str) -> str:
    """Only the ``<svg>`` element: sized by CSS, ids unique in the page, without addresses."""
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', document)
    body = re.search(r"<svg[^>]*>(.*)</svg>", document, re.DOTALL)
    if view is None or body is None:
        msg = "matplotlib wrote an SVG file without viewBox or content; is its version supported?"
        raise RuntimeError(msg)
    text = re.sub(r"<(metadata|style).*?</\1>|<!--.*?-->", "", body[1], flags=re.DOTALL)
    text = re.sub("<[^>]*>", lambda tag: _tag(tag[0], name), text)
    width = float(view[1])
    return (
        f'<svg class="figure" role="img" viewBox="0 0 {view[1]} {view[2]}" '
        f'style="--natural: {width:.0f}">\n'
        f"<title>{html.escape(title)}</title>{text}</svg>"
    )


def _tag(tag: str, name: str) -> str:
    """One tag of the figure ``name`` adapted to the page; text between tags is unchanged."""
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", tag.replace("xlink:href", "href"))
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag


def log_axis(axes: Axes, name: str) -> None:
    """A logarithmic axis with ticks at 1, 2, 5 and numbers without exponents."""
    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    low, high = axis.get_data_interval()
    # Few enough ticks that even 0.0001 beside 0.001 has room.
    few = {"subs": (1, 2, 5)} if high / low < 1e3 else {"subs": (1,), "numticks": 7}
    axis.set_major_locator(LogLocator(**few))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(tick))


def tick(value: float, _position: int | None = None) -> str:
    """A tick's number without exponent: 0.5, 1600, 20k, 3M."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:,.6g}k" if abs(value) < 1e6 else f"{value / 1e6:,.6g}M"
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
