"""From a source to the shards of one split: what is written, what is set aside, and why."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sid2core import artifact, config, progress
from sid2core.data import records, shards, sources, splits
from sid2core.data.errors import DataError, Unusable
from sid2core.data.records import Entry, Record, Source

REJECTS = "rejects.csv"
_SHOWN = 5
_log = logging.getLogger(__name__)


class Reject(NamedTuple):
    """An image that was set aside; bytes of names that are no text are escaped."""

    split: str
    key: str
    reason: str


@dataclass
class Part:
    """A split: its entries in the order to write, and what became of them."""

    split: str
    source: Source
    entries: Sequence[Entry]
    per_class: Counter[int] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)

    def records(self) -> Iterator[Record]:
        """Each entry's image in turn, one alive at a time; those of no use go to the rejects."""
        with progress.bar(len(self.entries), f"prepare {self.split}", "image") as bar:
            for entry in self.entries:
                try:
                    record = records.loaded(self.source, entry)
                except Unusable as error:
                    reject = Reject(self.split, _escaped(entry.key), _escaped(str(error)))
                    self.rejects.append(reject)
                else:
                    self.per_class[entry.label] += 1
                    yield record
                bar.update()


def parts(data: config.Data, seed: int) -> list[Part]:
    """The splits of what ``data`` names, listed but not decoded.

    Raises:
        DataError: nothing is found, a class is missing in a split, or two folders' classes differ.
    """
    train, held_out = sources.opened(data)
    if held_out is None:
        by_split = splits.split(records.listed(train), train.class_names, data.train_fraction, seed)
        return [Part(split, train, entries) for split, entries in by_split.items()]
    _check_same_classes(train, held_out)
    made = [
        Part(split, source, splits.mixed(records.listed(source), seed))
        for split, source in zip(splits.SPLITS, (train, held_out), strict=True)
    ]
    for part in made:
        _check_every_class(part, Counter(entry.label for entry in part.entries))
    return made


def write(part: Part, folder: Path, data: config.Data) -> dict[str, object]:
    """Write the shards of ``part`` into ``folder``; returns the facts of the split.

    Memory is bounded by one row group's bytes (``data.row_group_records`` images), two images or
    clips, one picture while it is decoded, and 200 bytes an entry.

    Raises:
        DataError: nothing of some class could be used.
    """
    class_names = part.source.class_names
    names = shards.write(
        folder,
        shards.Layout(part.source.shape, class_names, part.split),
        part.records(),
        shard_records=data.shard_records,
        row_group_records=data.row_group_records,
    )
    _check_every_class(part, part.per_class)
    return {
        "records": part.per_class.total(),
        "per_class": [part.per_class[label] for label in range(len(class_names))],
        "rejected": len(part.rejects),
        "shards": names,
    }


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write all rejects as CSV, and tell of the first ones in the log."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Reject._fields)
    table.writerows(rejects)
    artifact.write_text(path, text.getvalue())
    if rejects:
        _log.warning("%d image(s) set aside: %s", len(rejects), _told(rejects))


def _check_same_classes(train: Source, held_out: Source) -> None:
    ours, theirs = set(train.class_names), set(held_out.class_names)
    if ours == theirs:
        return
    only = [
        f"{len(names)} only in data.{key} ({', '.join(sorted(names)[:_SHOWN])})"
        for key, names in (("path", ours - theirs), ("eval_path", theirs - ours))
        if names
    ]
    msg = (
        f"data.path has {len(ours)} classes and data.eval_path {len(theirs)}: {'; '.join(only)}; "
        "labels follow the folders' names: rename, add or remove class folders until both agree"
    )
    raise DataError(msg)


def _check_every_class(part: Part, counts: Counter[int]) -> None:
    missing = [name for label, name in enumerate(part.source.class_names) if not counts[label]]
    if not missing:
        return
    msg = f"no image for {part.split} in {len(missing)} class(es), such as {missing[0]!r}"
    if part.rejects:
        msg += f"; {len(part.rejects)} were set aside: {_told(part.rejects)}"
    cure = "each split needs one of every class: repair or add images, or drop the class"
    raise DataError(f"{msg}; {cure}")


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _told(rejects: Sequence[Reject]) -> str:
    shown = [f"{reject.key} ({reject.reason})" for reject in rejects[:_SHOWN]]
    return ", ".join(shown) + (", …" if len(rejects) > _SHOWN else "")
