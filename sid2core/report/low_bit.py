"""The low-bit view of the loss (SiD2 supplement A): its figures and the numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sid2core.report import formatting, svg
from sid2core.report.inputs import Inputs
from sid2core.report.svg import SERIES

_DASHES: tuple[Any, ...] = ("solid", (0, (4, 2)))


def view(inputs: Inputs) -> dict[str, Any]:
    """What the template names in the section."""
    tables, settings, loss = inputs.low_bit, inputs.params.analysis, inputs.params.diffusion.loss
    size = inputs.prepare.facts["shape"][0]
    mixed = ", ".join(map(str, settings.mixture_bits))
    return {
        "figure11": Markup(precisions(tables.figure11)),
        "figure12": Markup(
            curves(
                tables.figure12,
                {
                    "sigmoid_weighted": "8 bits, sigmoid weighting",
                    "mixture": f"{mixed} bits mixed, no weighting",
                },
                {"name": "figure12", "y": "weighted eps error"},
            )
        ),
        "weights": Markup(
            curves(
                tables.weighting,
                {"weight": f"{loss.name}, in use", "edm_monotonic": "EDM, made monotone"},
                {"name": "weights", "y": "weight on the eps error"},
            )
        ),
        "density": Markup(
            curves(
                tables.weighting,
                {"density": "drawn: density", "weighted_density": "counted: weight times density"},
                {"name": "density", "y": "per unit of log-SNR"},
            )
        ),
        "fewest": int(tables.figure11["bits"].min()),
        "most": int(tables.figure11["bits"].max()),
        "bias": settings.sigmoid_bias,
        "mixed": mixed,
        "proportions": " : ".join(map(formatting.plain, settings.mixture_proportions)),
        "gaps": tables.gaps,
        "loss": loss,
        "size": size,
        "bias_of_one_value": loss.bias + 2 * math.log(size),
    }


def precisions(frame: pd.DataFrame) -> str:
    """Figure 11: the eps error over log-SNR, a line for each precision, its bits beside it."""

    def draw(axes: Axes) -> None:
        for number, (bits, part) in enumerate(frame.groupby("bits", sort=True)):
            axes.plot(part["logsnr"], part["eps_error"], color=SERIES[number % 4], linewidth=1.6)
            # Lines part where the error falls again: there each is named.
            high = part[part["eps_error"] >= part["eps_error"].max() / 2].iloc[-1]
            axes.annotate(
                f"{bits:.0f}",
                (high["logsnr"], high["eps_error"]),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=9,
            )
        _finish(axes, "eps error")

    return svg.render("figure11", "Expected eps error over log-SNR, by bits of the data", draw)


def curves(frame: pd.DataFrame, names: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """``value`` over log-SNR: a line for each of ``names``, curve → its name in words.

    Args:
        frame: columns ``logsnr``, ``curve`` and ``value``.
        names: the curves to draw, in this order.
        labels: ``name`` of the figure in the page and ``y``, its vertical axis in words.
    """

    def draw(axes: Axes) -> None:
        for (curve, name), colour, dashes in zip(names.items(), SERIES, _DASHES, strict=False):
            part = frame[frame["curve"] == curve]
            (line,) = axes.plot(part["logsnr"], part["value"], color=colour, linewidth=1.6)
            line.set(linestyle=dashes, label=name)
        _finish(axes, labels["y"])
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, fontsize=9)

    title = f"{labels['y']} over log-SNR: {' and '.join(names.values())}"
    return svg.render(labels["name"], title, draw)


def _finish(axes: Axes, label: str) -> None:
    axes.set(xlabel="log-SNR", ylabel=label)
    axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(FuncFormatter(svg.tick))
