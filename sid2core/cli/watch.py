"""``sid2 watch``: the stages that run in this project, in a terminal."""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sid2core.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from sid2core.pipeline.running import Running

_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 24
"""Points of the loss's curve."""
_LINES = 18
"""Lines of the newest samples, at most: two pixels each."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--once", action="store_true", help="print the present state and end")
    parser.add_argument(
        "--every", type=_seconds, default=2.0, metavar="SECONDS", help="default: %(default)s"
    )


def run(options: argparse.Namespace) -> None:
    """Print once, or until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    try:
        if options.once or not console.is_terminal:
            while True:
                console.print(view(console), soft_wrap=True)
                if options.once:
                    return
                time.sleep(options.every)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(view(console), refresh=True)
                time.sleep(options.every)
    except KeyboardInterrupt:
        return


def view(console: Console) -> RenderableType:
    """All running stages; with pictures and curves where the terminal has colours and blocks."""
    from rich.console import Group

    from sid2core.pipeline import running

    stages = running.listed()
    if not stages:
        return "no stage runs"
    blocks = console.color_system is not None and console.encoding.lower().startswith("utf")
    return Group(*(part for one in stages for part in _parts(one, console, blocks)))


def _parts(one: Running, console: Console, blocks: bool) -> Iterator[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    reports = Path(one.folder) / "reports" / one.stage
    yield Text(line(one), "bold" if blocks else "")
    if blocks:
        yield ProgressBar(one.total, one.done, width=min(console.width, 60))
        if curve := sparkline(reports / "curve.csv"):
            yield Text(f"loss {curve}")
    if newest := _newest(reports / "samples"):
        yield Text(f"samples of step {newest.stem}: {newest}")
        if blocks:
            yield pixels(newest, console.width - 1)
    yield Text("")


def line(one: Running) -> str:
    """What a stage does, in one line."""
    from tqdm import tqdm

    name = one.stage if one.task == one.stage else f"{one.stage} {one.task}"
    share = f" ({one.done / one.total:.0%})" if one.total else ""
    parts = [f"{name}: {one.unit} {one.done} of {one.total}{share}"]
    left = one.seconds_left()
    if one.rate and left is not None and one.done < one.total:
        parts.append(_rate(one.rate, one.unit))
        parts.append(f"{tqdm.format_interval(math.ceil(left))} left")
    parts += [f"{key} {value}" for key, value in one.values.items()]
    silent = time.time() - one.updated
    if silent > 60:
        parts.append(f"last sign {tqdm.format_interval(int(silent))} ago")
    where = f"experiment {one.experiment}" if one.experiment else one.folder
    return printable(", ".join([*parts, where]))


def _rate(rate: float, unit: str) -> str:
    if rate < 1:
        return f"{1 / rate:.3g} s/{unit}"
    return f"{rate:.3g} {unit}s/s" if rate < 100 else f"{rate:,.0f} {unit}s/s"


def sparkline(curve: Path) -> str:
    """The last half of a curve's losses as block characters; empty where there are none yet."""
    try:
        with curve.open(encoding="utf-8", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")]
    except (OSError, ValueError):  # there is no curve yet, or DVC is just replacing it
        return ""
    losses = losses[len(losses) // 2 :]
    size = max(1, math.ceil(len(losses) / _CURVE))
    means = [sum(part) / len(part) for part in _chunks(losses, size)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if not high > low:
        return ""
    places = (int((one - low) / (high - low) * (len(_BARS) - 1) + 0.5) for one in means)
    return "".join(_BARS[place] for place in places) + f" {low:.4g} to {high:.4g}"


def pixels(path: Path, columns: int) -> Text:
    """A picture of two pixels per character, at most ``columns`` wide and ``_LINES`` high."""
    from PIL import Image, UnidentifiedImageError
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    text = Text(no_wrap=True)
    try:
        with Image.open(path) as image:
            scale = min(columns / image.width, 2 * _LINES / image.height, 1.0)
            size = max(1, int(image.width * scale)), max(2, int(image.height * scale) // 2 * 2)
            small = image.convert("RGB").resize(size, Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError) as error:
        return Text(f"cannot be read: {error}")
    data = small.tobytes()
    width = size[0]

    def colour(row: int, column: int) -> Color:
        place = 3 * (row * width + column)
        return Color.from_rgb(*data[place : place + 3])

    for row in range(0, size[1], 2):
        for column in range(width):
            style = Style(color=colour(row, column), bgcolor=colour(row + 1, column))
            text.append("▀", style)
        text.append("\n")
    text.rstrip()
    return text


def _newest(folder: Path) -> Path | None:
    steps = [path for path in folder.glob("*.png") if path.stem.isdecimal()]
    return max(steps, key=lambda path: int(path.stem), default=None)


def _chunks(values: list[float], size: int) -> Iterator[list[float]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"found {text}; expected 0.1 to 3600")
    return value
