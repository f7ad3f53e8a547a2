"""The low-bit view of the loss (SiD2 supplement A): figures, and the text beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sid2core import config
from sid2core.report import formatting, svg
from sid2core.report.inputs import SUB_BAND, Inputs
from sid2core.report.svg import SERIES

_DASHES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)))


def view(inputs: Inputs) -> dict[str, Any]:
    """The values of the template's section."""
    tables, settings, loss = inputs.low_bit, inputs.params.analysis, inputs.params.diffusion.loss
    size = inputs.prepare.facts["shape"][-3]
    mixed = ", ".join(map(str, settings.mixture_bits))
    return {
        "figure11": Markup(precisions(tables.figure11)),
        "figure12": Markup(
            curves(
                tables.figure12,
                {
                    "sigmoid_weighted": "8 bits, sigmoid weighting",
                    "mixture": f"mixture of {mixed} bits, no weighting",
                },
                {"name": "figure12", "y": "weighted eps error"},
            )
        ),
        "weights": Markup(
            curves(
                tables.weighting,
                {**_in_use(loss, tables.weighting), "edm_monotonic": "EDM, made monotonic"},
                {"name": "weights", "y": "weight on the eps error"},
            )
        ),
        "density": Markup(
            curves(
                tables.weighting,
                {"density": "density", "weighted_density": "weight times density"},
                {"name": "density", "y": "per unit of log-SNR"},
            )
        ),
        "fewest": int(tables.figure11["bits"].min()),
        "most": int(tables.figure11["bits"].max()),
        "bias": settings.sigmoid_bias,
        "mixed": mixed,
        "proportions": " : ".join(map(formatting.plain, settings.mixture_proportions)),
        "gaps": tables.gaps,
        "loss": " ".join(_words(loss, size)),
    }


def _in_use(loss: config.Loss, weighting: pd.DataFrame) -> dict[str, str]:
    """The text for each curve: the weight in use, or those of the first and last sub-band."""
    bands = [name for name in weighting["curve"].unique() if name.startswith(SUB_BAND)]
    name = loss.name.replace("_", " ")
    if not bands:
        return {"weight": f"{name}, in use"}
    deepest, finest = "L" * 2 * (loss.levels or 0), bands[-1].removeprefix(SUB_BAND)
    return {"weight": f"{name}, in use: {deepest}", bands[-1]: f"{name}: {finest}"}


def _words(loss: config.Loss, size: int) -> list[str]:
    """Sentences about the weighting in use, for images ``size`` pixels high."""
    if loss.bias is None:
        shift = formatting.fixed(2 * math.log(64 / size), 1)
        edm = (
            f"EDM’s weighting was tuned for 64 pixels a side; for {size} it is shifted by "
            f"2 log(64 / {size}) = {shift}"
        )
        return {
            "edm": [f"{edm}."],
            "edm_monotonic": [f"{edm}, and flat below its peak."],
            "elbo": ["In use is the variational bound: every log-SNR has the same weight."],
            "low_bit": [
                "In use is the implicit weighting of training on a mixture of data of 8, 7, 6, 5 "
                "bits in the proportions 1 : 4 : 4 : 6, shifted by "
                f"2 log {size} from a single value to the image."
            ],
        }[loss.name]
    bias = formatting.plain(loss.bias)
    if loss.levels is None:
        one = formatting.fixed(loss.bias + 2 * math.log(size), 1)
        words = [
            f"Averaging an image of {size} pixels a side to one value raises the log-SNR by "
            f"2 log {size}, so the bias {bias} in use corresponds to {one} for a single value."
        ]
    else:
        words = [
            f"The power loss splits the error into Haar sub-bands (levels: {loss.levels}) and "
            "weights each separately: a sub-band with l letters L in its name by "
            f"2^l sigmoid({bias} − l log 2 − log-SNR), times a common factor that "
            "makes the deepest’s weight one in pure noise. Source: SiD2 supplement B.2."
        ]
    if loss.bias_start is not None and loss.bias_steps is not None:
        words.append(
            f"The bias moves to this value from {formatting.plain(loss.bias_start)} over the first "
            f"{formatting.count(loss.bias_steps)} steps (SiD2 supplement C.2); the figure shows "
            "the final value."
        )
    return words


def precisions(frame: pd.DataFrame) -> str:
    """Figure 11: the eps error over log-SNR, one line per precision with its bits beside it."""

    def draw(axes: Axes) -> None:
        for number, (bits, part) in enumerate(frame.groupby("bits", sort=True)):
            axes.plot(part["logsnr"], part["eps_error"], color=SERIES[number % 4], linewidth=1.6)
            # The lines separate where the error falls again, so each is named there.
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
    """``value`` over log-SNR, one line for each of ``names``.

    Args:
        frame: columns ``logsnr``, ``curve`` and ``value``.
        names: the curves to draw, in this order, with their texts.
        labels: ``name``, the figure's id in the page, and ``y``, the text of the vertical axis.
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
