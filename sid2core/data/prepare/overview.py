"""What ``prepare`` found, for readers: metadata of the manifest, tables, a sheet of images."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sid2core import atomic
from sid2core.conditioning import ConditionSpec
from sid2core.data import encode
from sid2core.data.load.reading import Shards
from sid2core.data.load.shards import Layout
from sid2core.data.prepare import captions
from sid2core.data.prepare.counts import BRIGHTNESS_BINS, copies
from sid2core.data.prepare.listing import Part
from sid2core.data.sources import protocol
from sid2core.data.sources.protocol import CaptionFiles
from sid2core.errors import few, printable

_log = logging.getLogger(__name__)
_REASONS = 50
"""At most so many reasons have a row of their own."""
_ROWS = _COLUMNS = 12
_HEAD_BYTES, _HEAD_RECORDS = 64 * 2**20, 1024
_CELL = (32, 96)
"""Sides of the sheet's images: small ones are enlarged to the first, large ones reduced."""
_GAP = 2
_CLASSES, _NAME_SHOWN, _FIELDS = 40, 40, 12
"""Classes and fields that are printed at most, and characters of a name."""
_NAME_WIDTH, _NAME_LENGTH = 96, 15


def metadata(parts: Sequence[Part], shards: Path) -> dict[str, Any]:
    """What the manifest says of the data; needs the parts as :func:`preparation.place` left them.

    Mean and standard deviation are of raw values, by channel. ``captions``, ``attributes`` (the
    possible values of each), ``attribution`` and ``videos`` (:func:`video_counts`) are there only
    if the source has them.

    Args:
        parts: the splits.
        shards: the folder of their shards.
    """
    source = parts[0].source
    found: dict[str, Any] = {
        "shape": list(source.shape),
        "class_names": list(parts[0].class_names),
        "captioned": parts[0].captioned,
        "decoding": dict(source.metadata),
    }
    if parts[0].captioned:
        paths = [shards / name for part in parts for name in part.shards]
        found["captions"] = {
            **captions.summary(paths),
            "without_image": _without_image(parts),
            "examples": captions.examples(paths[:1]),
        }
    if attributes := protocol.attributes_of(source):
        found["attributes"] = {name: list(values) for name, values in attributes.items()}
    if attribution := protocol.attribution_of(source):
        found["attribution"] = attribution
    if videos := video_counts(parts):
        found["videos"] = videos
    return {
        **found,
        "condition": ConditionSpec.of_data(found).to_json(),
        "splits": {
            part.split: {
                "records": part.tally.records,
                "per_class": [part.tally.per_class[label] for label in range(_classes(part))],
                "rejected": len(part.rejects),
                **part.tally.moments(),
                "shards": part.shards,
            }
            for part in parts
        },
    }


def write(folder: Path, parts: Sequence[Part], shards: Path) -> None:
    """Write metrics, tables and the contact sheet of the shards in ``shards`` into ``folder``."""
    rejects = [reject for part in parts for reject in part.rejects]
    metrics = {f"{part.split}_images": part.tally.records for part in parts}
    metrics |= {"classes": _classes(parts[0]), "rejected_images": len(rejects)}
    for counts in video_counts(parts).values():
        for name, value in counts.items():
            metrics[name] = metrics.get(name, 0) + value
    if parts[0].captioned:
        metrics["images_without_caption"] = sum(part.tally.missing for part in parts)
        metrics["captions_without_image"] = _without_image(parts)
    train, evaluation = (
        next(part for part in parts if part.split == split) for split in ("train", "eval")
    )
    same = copies(train.tally, evaluation.tally)
    if same:
        counted = ", ".join(f"{name} {count}" for name, count in same.items())
        _log.warning(
            "some images are the same pixel for pixel: %s of %d and %d; what is in both splits "
            "makes distances too small, so remove the copies from the source",
            counted,
            train.tally.records,
            evaluation.tally.records,
        )
    atomic.write_json(folder / "metrics.json", metrics | same)
    for name, table in _tables(parts).items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        atomic.write_text(folder / f"{name}.csv", text.getvalue())
    images, labels = _head(shards / train.shards[0], train.layout)
    sheet = contact_sheet(images, labels, [printable(name) for name in train.class_names])
    sheet.save(folder / "contact_sheet.png")


def video_counts(parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    """What became of each video file and each of its clips, by split; empty without videos.

    Every file is one of ``videos``. Each gives ``clips``, or clips that are rejects, or it is one
    reject itself. ``videos_used`` gave at least one clip. Of Kinetics there are also
    ``csv_rows``, ``missing_videos`` (rows without a file) and ``videos_of_other_splits``. A source
    of both splits counts these once, under ``train``.
    """
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        videos = {entry.video for entry in part.entries}
        if None in videos:
            return {}
        rejected = {reject.key for reject in part.rejects}
        used = {entry.video for entry in part.entries if printable(entry.key) not in rejected}
        found[part.split] = {
            "videos": len(videos) + len(part.problems),
            "videos_used": len(used),
            "clips": part.tally.records,
            "rejected_clips": len(part.tally.rejects),
            "rejected_videos": len(part.problems),
        }
        if not any(part.source is other.source for other in parts[: parts.index(part)]):
            found[part.split] |= protocol.counts_of(part.source)
    return found


def table(parts: Sequence[Part]) -> str:
    """The classes and the entries of each split, and the fields that labels come from.

    Entries are those listed: some may turn out to be damaged when they are decoded.
    """
    names = [printable(name) for name in parts[0].class_names]
    names = [name if len(name) <= _NAME_SHOWN else f"{name[: _NAME_SHOWN - 1]}…" for name in names]
    counts = [Counter(entry.label for entry in part.entries) for part in parts]
    width = max(map(len, ["class name", *names[:_CLASSES]]))
    splits = "".join(f"{part.split:>9}" for part in parts)
    lines = [f"label  {'class name':{width}}{splits}"]
    for label, name in enumerate(names[:_CLASSES]):
        numbers = "".join(f"{count[label]:9}" for count in counts)
        lines.append(f"{label:5}  {name:{width}}{numbers}")
    if len(names) > _CLASSES:
        more = f"… {len(names) - _CLASSES} more classes, all in reports/prepare/classes.csv"
        lines.append(more)
    found = protocol.fields_of(parts[0].source)
    if found.label is not None:
        lines.append(f"labels: {printable(found.label)}")
    lines.append(f"ignored fields: {few(found.ignored, _FIELDS) or 'none'}")
    if parts[0].captioned:
        lines += _caption_lines(parts)
    return "\n".join(lines)


def caption_counts(found: Mapping[str, Any]) -> str:
    """A line of what the manifest says of captions."""
    return (
        f"captions: {found['captions']} of {found['images']} images, {found['missing']} images "
        f"without; {found['distinct']} distinct, {found['empty']} empty, "
        f"{found['characters']['median']} characters in the median, "
        f"{found['characters']['max']} at most"
    )


def _caption_files(parts: Sequence[Part]) -> list[CaptionFiles]:
    """Those of each source: both splits may have the same one."""
    sources = {id(part.source): part.source for part in parts}
    return [protocol.caption_files_of(source) for source in sources.values()]


def _without_image(parts: Sequence[Part]) -> int:
    """Captions that belong to no image, of all sources."""
    return sum(one.without_image for one in _caption_files(parts))


def _caption_lines(parts: Sequence[Part]) -> Iterator[str]:
    """What is known of captions before any image is read."""
    bare = sum(entry.captioned is False for part in parts for entry in part.entries)
    known = any(entry.captioned is not None for part in parts for entry in part.entries)
    yield f"images without a caption: {bare if known else 'counted as they are read'}"
    for one in _caption_files(parts):
        example = f" (such as {few(one.examples, 1)})" if one.without_image else ""
        yield f"captions without an image: {one.without_image}{example}"
        yield from map(printable, one.suggestions)


def _classes(part: Part) -> int:
    return len(part.class_names)


def _tables(parts: Sequence[Part]) -> Mapping[str, list[tuple]]:
    """Tables by name, headings first."""
    brightness, sides, reasons = Counter[int](), Counter[int](), Counter[str]()
    for part in parts:
        reasons.update(reject.reason for reject in part.rejects)
        brightness.update(part.tally.brightness)
        sides.update(part.tally.short_sides)
    width = 256 // BRIGHTNESS_BINS
    return {
        # Labels, since names may hold anything; the manifest has the names.
        "classes": [("label", "split", "images")]
        + [
            (label, part.split, part.tally.per_class[label])
            for part in parts
            for label in range(_classes(part))
        ],
        "sizes": [("short_side", "images"), *sorted(sides.items())],
        "brightness": [("from", "images")]
        + [(place * width, brightness[place]) for place in range(BRIGHTNESS_BINS)],
        "rejects": [("reason", "images"), *_commonest(reasons)],
    }


def _commonest(reasons: Counter[str]) -> list[tuple[str, int]]:
    shown = reasons.most_common(_REASONS)
    rest = reasons.total() - sum(count for _, count in shown)
    return [*shown, ("other reasons", rest)] if rest else shown


def _head(shard: Path, layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The first images of a shard (of clips, the middle frame) and their labels, within bounds."""
    opened = Shards([shard], layout)
    images: list[NDArray[np.uint8]] = []
    count = size = 0
    for number in range(len(opened.sizes)):
        if count > _HEAD_RECORDS or size > _HEAD_BYTES:
            break
        found = opened.images(number)
        images.append(found if found.ndim == 4 else found[:, found.shape[1] // 2])
        count, size = count + len(found), size + found.nbytes
    return np.concatenate(images), opened.labels[:count]


def contact_sheet(
    images: NDArray[np.uint8], labels: NDArray[np.int32], class_names: Sequence[str]
) -> Image.Image:
    """A row of images a class where classes are few, else a grid of any images in label order.

    A single class, such as that of images without labels, needs no name: it makes a grid too.

    Args:
        images: raw values [n, h, w, c].
        labels: class indices [n].
        class_names: the name of each label, written beside its row.
    """
    if 1 < len(class_names) <= _ROWS:
        names = list(class_names)
        rows = [np.flatnonzero(labels == label)[:_COLUMNS] for label in range(len(names))]
    else:
        chosen = np.argsort(labels[: _ROWS * _COLUMNS], kind="stable")
        rows = np.split(chosen, range(_COLUMNS, len(chosen), _COLUMNS))
        names = []
    height, width = _cell(*images.shape[1:3])
    left = _NAME_WIDTH if names else _GAP
    sheet = Image.new(
        "RGB",
        (left + _COLUMNS * (width + _GAP), _GAP + len(rows) * (height + _GAP)),
        "white",
    )
    pen = ImageDraw.Draw(sheet)
    for row, members in enumerate(rows):
        top = _GAP + row * (height + _GAP)
        if names:
            pen.text((_GAP, top + height // 2), _short(names[row]), "black", anchor="lm")
        for column, member in enumerate(members):
            picture = _picture(images[member], (width, height))
            sheet.paste(picture, (left + column * (width + _GAP), top))
    return sheet


def _cell(height: int, width: int) -> tuple[int, int]:
    """The size of an image on the sheet: enlarged by a whole number, or reduced."""
    smallest, largest = _CELL
    side = max(height, width)
    if side <= largest:
        factor = max(1, -(-smallest // side))
        return height * factor, width * factor
    return max(1, height * largest // side), max(1, width * largest // side)


def _picture(image: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    picture = encode.picture(image)
    smaller = size[0] < picture.width
    return picture.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
