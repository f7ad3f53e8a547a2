"""From listed entries to shards: what is written, and what is set aside.

A shard is the unit of work: its entries are known beforehand, so any process can make it, in any
order, with the same bytes. Made shards lie in the work folder, each with its tally beside it,
until all are there; a run that was killed finds them again.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sid2core import atomic, checksums, config
from sid2core.data.errors import DataError, Unusable
from sid2core.data.load import shards
from sid2core.data.prepare import listing, workers
from sid2core.data.prepare.captions import Missing
from sid2core.data.prepare.counts import Reject, Tally
from sid2core.data.prepare.listing import Part
from sid2core.data.prepare.workers import Workers
from sid2core.data.sources import protocol
from sid2core.data.sources.protocol import Entry, Record, Source
from sid2core.errors import printable
from sid2core.pipeline import progress

REJECTS = "rejects.csv"
_SAMPLE = 64
"""Files of a shard that stand for all."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One shard to write; all that a process needs to know."""

    path: Path
    layout: shards.Layout
    source: Source
    entries: Sequence[Entry]
    row_group_records: int

    @property
    def tally_path(self) -> Path:
        """Its tally, which is written last."""
        return self.path.with_suffix(".json")

    def whole(self) -> bool:
        """Whether an earlier run finished the shard, and neither it nor the tally is damaged."""
        return checksums.whole(self.tally_path) and checksums.whole(self.path)

    def tally(self) -> Tally:
        """What came of it."""
        return Tally.from_json(json.loads(self.tally_path.read_text(encoding="utf-8")))


def write(parts: Sequence[Part], folder: Path, data: config.Data, pool: Workers) -> None:
    """Write the shards of all parts into the work folder; tallies and names go into the parts.

    Memory is bounded by one row group's bytes (``data.row_group_records`` images), two images or
    clips and one picture while it is decoded for each worker, for a grouped source also the row
    groups that it keeps at hand, and by 300 bytes an entry.

    Raises:
        DataError: too much had to be set aside, nothing of a shard or of some class could be used,
            or the disk is full; what was finished stays in ``folder``.
    """
    atomic.remove_unfinished(folder)
    jobs = [list(_jobs(part, folder.absolute(), data)) for part in parts]
    every = [job for some in jobs for job in some]
    done, todo = list[Job](), list[Job]()
    for job in every:
        (done if job.whole() else todo).append(job)
    if done:
        _log.info("%d of %d shards are there already", len(done), len(every))
    total = sum(len(job.entries) for job in every)
    rejects = [reject for part in parts for reject in part.problems]
    what = "clips" if len(parts[0].layout.shape) == 4 else "images"
    limit = _Limit(data.max_reject_fraction, total + len(rejects), folder / REJECTS, what)
    allowed = Missing(data.max_missing_captions if parts[0].captioned else 1.0, total)
    missing = 0
    for job in done:
        tally = job.tally()
        rejects += tally.rejects
        missing += tally.missing
    limit.check(rejects)
    allowed.check(missing)
    initial = total - sum(len(job.entries) for job in todo)
    with progress.bar(total, "prepare", "image", initial=initial) as bar:
        for entries, files, tally in workers.spread(write_shard, todo, pool):
            rejects += tally.rejects
            missing += tally.missing
            limit.check(rejects)
            limit.check_shard(files, tally)
            allowed.check(missing)
            bar.update(entries)
    for part, made in zip(parts, jobs, strict=True):
        _collect(part, made)


def write_shard(job: Job) -> tuple[int, int, Tally]:
    """Write one shard and its tally; returns how many entries and files it took, and the tally.

    Raises:
        DataError: the disk is full.
    """
    tally = Tally()
    try:
        shards.write(job.path, job.layout, _records(job, tally), job.row_group_records)
        checksums.seal(job.path)
        checksums.write_json(job.tally_path, tally.to_json())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        msg = (
            f"no space left for {job.path} ({error.strerror}); finished shards are kept: make room "
            "there and run again"
        )
        raise DataError(msg) from error
    files = {entry.key if entry.video is None else entry.video for entry in job.entries}
    return len(job.entries), len(files), tally


def place(part: Part, folder: Path, target: Path) -> None:
    """Give the shards of ``part`` their names in ``target``; ``folder`` keeps them too."""
    names = [
        f"{part.split}-{index:05d}-of-{len(part.shards):05d}.parquet"
        for index in range(len(part.shards))
    ]
    for made, name in zip(part.shards, names, strict=True):
        try:
            os.link(folder / made, target / name)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(folder / made, target / name)
    part.shards = names


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write all rejects as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Reject._fields)
    table.writerows(rejects)
    atomic.write_text(path, text.getvalue())


def _jobs(part: Part, folder: Path, data: config.Data) -> Iterator[Job]:
    for start in range(0, len(part.entries), data.shard_records):
        path = folder / f"{part.split}-{start // data.shard_records:05d}.parquet"
        entries = part.entries[start : start + data.shard_records]
        yield Job(path, part.layout, part.source, entries, data.row_group_records)


def _records(job: Job, tally: Tally) -> Iterator[Record]:
    """Each entry's image in turn, one alive at a time; those of no use go to the rejects."""
    for entry in job.entries:
        try:
            record = protocol.loaded(job.source, entry)
        except Unusable as error:
            tally.rejects.append(Reject.of(job.layout.split, entry.key, str(error)))
        except MemoryError as error:
            msg = f"not enough memory for {printable(entry.key)}: lower runtime.workers or "
            raise DataError(f"{msg}data.max_pixels; finished shards are kept") from error
        else:
            tally.add(record)
            yield record


def _collect(part: Part, jobs: Sequence[Job]) -> None:
    for job in jobs:
        tally = job.tally()
        part.tally.merge(tally)
        if tally.records:
            part.shards.append(job.path.name)
    listing.check_classes(part, part.tally.per_class)


@dataclass(frozen=True)
class _Limit:
    """How much may be set aside."""

    fraction: float
    total: int
    table: Path
    what: str
    """Images or clips."""

    def check(self, rejects: Sequence[Reject]) -> None:
        """Raises where it is more than that."""
        if len(rejects) > self.fraction * self.total:
            found = f"{len(rejects)} of {self.total} {self.what} had to be set aside, more than the"
            allowed = f"share that data.max_reject_fraction {self.fraction:g} allows"
            cure = "repair or remove them, or raise the limit"
            raise self._error(f"{found} {allowed}", rejects, cure)

    def check_shard(self, files: int, tally: Tally) -> None:
        """Raises where nothing of a large shard can be used: then parameters are wrong, not files.

        Files are shuffled, so those of a shard are a sample of all.
        """
        if not tally.records and files >= _SAMPLE and self.fraction <= 0.5:
            found = f"none of {len(tally.rejects)} {self.what} of a shard can be used"
            cure = "change what data.source asks of them, such as the number of frames, or the path"
            raise self._error(found, tally.rejects, cure)

    def _error(self, found: str, rejects: Sequence[Reject], cure: str) -> DataError:
        write_rejects(self.table, rejects)
        listed = f"all of them so far are in {self.table}"
        return DataError(f"{found}: {listing.summary(rejects)}; {listed}: {cure}")
