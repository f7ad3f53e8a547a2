"""The low-bit view of the loss (SiD2 supplement A): figures, and the text beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sid2core import config
from sid2core.report import formatting
from sid2core.report.charts import svg
from sid2core.report.charts.svg import SERIES
from sid2core.report.read.inputs import SUB_BAND, Inputs

_DASHES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)))


def view(inputs: Inputs) -> dict[str, Any]:
    """The values of the template's section."""
    tables, settings, loss = inputs.low_bit, inputs.params.analysis, inputs.params.diffusion.loss
    size = inputs.prepare.metadata["shape"][-3]
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
    """Curve → its label: the weight in use, or those of the first and the last sub-band."""
    bands = [name for name in weighting["curve"].unique() if name.startswith(SUB_BAND)]
    name = loss.name.replace("_", " ")
    if not bands:
        return {"weight": f"{name}, in use"}
    deepest, finest = "", bands[-1].removeprefix(SUB_BAND)
    if isinstance(loss.settings, config.Power):
        deepest = ": " + "L" * 2 * loss.settings.levels
    return {"weight": f"{name}, in use{deepest}", bands[-1]: f"{name}: {finest}"}


def _words(loss: config.Loss, size: int) -> list[str]:
    """What the weighting in use means for images ``size`` pixels high, in sentences.

    A loss that is registered elsewhere is named, with its parameters.
    """
    if loss.name in _SENTENCES:
        return [_SENTENCES[loss.name](loss.settings, size), *_moving(loss.settings)]
    values = [f"{key} {value}" for key, value in loss.settings.model_dump().items()]
    parameters = f" with {', '.join(values)}" if values else ""
    return [f"In use is the loss {loss.name}{parameters}.", *_moving(loss.settings)]


def _sigmoid(settings: Any, size: int) -> str:
    one = formatting.fixed(settings.bias + 2 * math.log(size), 1)
    return (
        f"Averaging an image of {size} pixels a side to one value raises the log-SNR by "
        f"2 log {size}, so the bias {formatting.plain(settings.bias)} in use corresponds to {one} "
        "for a single value."
    )


def _power(settings: Any, size: int) -> str:
    return (
        f"The power loss splits the error into Haar sub-bands (levels: {settings.levels}) and "
        "weights each separately: a sub-band with l letters L in its name by "
        f"2^l sigmoid({formatting.plain(settings.bias)} − l log 2 − log-SNR), times a common "
        "factor that makes the deepest’s weight one in pure noise. Source: SiD2 supplement B.2."
    )


def _edm(size: int, end: str) -> str:
    shift = formatting.fixed(2 * math.log(64 / size), 1)
    return (
        f"EDM’s weighting was tuned for 64 pixels a side; for {size} it is shifted by "
        f"2 log(64 / {size}) = {shift}{end}."
    )


_SENTENCES: Mapping[str, Callable[[Any, int], str]] = {
    "sigmoid": _sigmoid,
    "power": _power,
    "edm": lambda _, size: _edm(size, ""),
    "edm_monotonic": lambda _, size: _edm(size, ", and flat below its peak"),
    "elbo": lambda *_: "In use is the variational bound: every log-SNR has the same weight.",
    "low_bit": lambda _, size: (
        "In use is the implicit weighting of training on a mixture of data of 8, 7, 6, 5 bits in "
        f"the proportions 1 : 4 : 4 : 6, shifted by 2 log {size} from a single value to the image."
    ),
}


def _moving(settings: Any) -> list[str]:
    """A sentence about a bias that moves; none about one that does not."""
    if not isinstance(settings, config.Biased) or settings.bias_start is None:
        return []
    return [
        f"The bias moves to this value from {formatting.plain(settings.bias_start)} over the first "
        f"{formatting.count(settings.bias_steps or 0)} steps (SiD2 supplement C.2); the figure "
        "shows the final value."
    ]


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
