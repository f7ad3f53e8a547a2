"""The prepared data: contact sheet, histograms, and rejects."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from sid2core.data.load.dataset import Dataset
from sid2core.data.prepare.splits import SPLITS
from sid2core.report import formatting, images
from sid2core.report.charts import svg
from sid2core.report.read.prepared_files import Prepared
from sid2core.report.tables import Cell, Row, Table

_REASONS = 12
_MOST_BARS = 64


def view(found: Prepared, what: str = "image", *, classes: bool = True) -> dict[str, Any]:
    """The values of the template's section.

    Args:
        found: the reports of ``prepare``.
        what: what a record is: ``image`` or ``clip``.
        classes: whether the data have classes; numbers per class are left out otherwise.
    """
    sides = found.sizes["short_side"]
    return {
        "sheet": "data:image/png;base64," + base64.b64encode(found.sheet).decode("ascii"),
        "splits": _splits(found.classes, what, classes),
        "per_class": Markup(_per_class(found.classes, what)) if classes else None,
        "brightness": Markup(_brightness(found.brightness, what)),
        "sides": Markup(_sides(found.sizes, what)) if len(sides) > 1 else None,
        "side": formatting.count(sides.iloc[0]),
        "rejected": found.rejected,
        "reasons": [
            (reason, formatting.count(count))
            for reason, count in list(found.reasons.items())[:_REASONS]
        ],
    }


def captions(metadata: Mapping[str, Any], train: Dataset) -> dict[str, Any] | None:
    """Counts of the captions, and images with theirs; None without captions.

    Args:
        metadata: of the artifact ``prepare``.
        train: its train split.
    """
    found = metadata.get("captions")
    if not found:
        return None
    counts = (
        ("images", found["images"]),
        ("images without a caption", found["missing"]),
        ("captions without an image", found["without_image"]),
        ("captions", found["captions"]),
        ("empty captions", found["empty"]),
        ("distinct captions", found["distinct"]),
        ("duplicates", found["duplicates"]),
        ("characters of a caption, median", found["characters"]["median"]),
        ("characters of the longest", found["characters"]["max"]),
    )
    pictures = train.take([one["row"] for one in found["examples"]])
    return {
        "counts": [(name, formatting.count(value)) for name, value in counts],
        "examples": [
            {"uri": images.data_uri(picture), "captions": one["captions"]}
            for picture, one in zip(pictures, found["examples"], strict=True)
        ],
    }


def videos(metadata: Mapping[str, Any]) -> Table | None:
    """What became of each video file and each clip, by split; None without video files."""
    found = metadata.get("videos")
    if not found:
        return None
    names = {
        "videos": "video files",
        "videos_used": "files with a clip",
        "rejected_videos": "rejected files",
        "clips": "clips",
        "rejected_clips": "rejected clips",
        "missing_videos": "files missing of the CSV files",
        "videos_of_other_splits": "files of other splits",
    }
    used = {
        name: title for name, title in names.items() if any(name in one for one in found.values())
    }
    rows = [
        Row(
            split,
            tuple(
                Cell(formatting.count(float(found[split][name])) if name in found[split] else "")
                for name in used
            ),
        )
        for split in SPLITS
    ]
    return Table("split", tuple(used.values()), tuple(rows))


def _splits(table: pd.DataFrame, what: str, classes: bool) -> Table:
    rows = []
    for split in SPLITS:
        counts = table[table["split"] == split]["images"]
        total, fewest, most = (
            formatting.count(float(number)) for number in (counts.sum(), counts.min(), counts.max())
        )
        cells = (total, fewest, formatting.plain(float(counts.median())), most)
        rows.append(Row(split, tuple(map(Cell, cells if classes else cells[:1]))))
    columns = (f"{what}s", "fewest per class", "median", "most per class")
    return Table("split", columns if classes else columns[:1], tuple(rows))


def _per_class(classes: pd.DataFrame, what: str) -> str:
    """Records per class, from the most to the fewest, one outline per split."""

    def draw(axes: Axes) -> None:
        for split, colour in zip(SPLITS, svg.SERIES, strict=False):
            counts = np.sort(classes[classes["split"] == split]["images"])[::-1]
            edges = np.arange(len(counts) + 1)
            axes.stairs(counts, edges, color=colour, linewidth=1.6, label=split)
            axes.stairs(counts, edges, color=colour, fill=True, alpha=0.15)
        axes.set(xlabel=f"classes, by number of {what}s", ylabel=f"{what}s")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(svg.tick))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, fontsize=9, ncols=2)

    return svg.render("prepare-classes", f"{what.capitalize()}s per class, of both splits", draw)


def _brightness(table: pd.DataFrame, what: str) -> str:
    lower = table["from"].to_numpy()
    edges = np.append(lower, 256.0)
    label = f"mean pixel value of {'an' if what == 'image' else 'a'} {what}"
    return _histogram("prepare-brightness", table["images"], edges, label, what)


def _sides(table: pd.DataFrame, what: str) -> str:
    """Records by the shorter side of their files, in logarithmic bins."""
    sides, images = table["short_side"].to_numpy(), table["images"].to_numpy()
    bins = min(_MOST_BARS, max(8, len(sides)))
    edges = np.geomspace(sides.min(), sides.max() + 1, bins + 1)
    counts = np.histogram(sides, edges, weights=images)[0]
    label = "shorter side of the file, pixels"
    return _histogram("prepare-sides", counts, edges, label, what, log=True)


def _histogram(
    name: str, counts: Any, edges: Any, label: str, what: str, *, log: bool = False
) -> str:
    def draw(axes: Axes) -> None:
        axes.stairs(counts, edges, color=svg.SERIES[0], linewidth=1.6)
        axes.stairs(counts, edges, color=svg.SERIES[0], fill=True, alpha=0.15)
        if log:
            svg.log_axis(axes, "x")
        axes.set(xlabel=label, ylabel=f"{what}s")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(svg.tick))

    return svg.render(name, f"Histogram of {what}s by {label}", draw)
