"""What there is to prepare: the entries of both splits, before anything is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sid2core import config
from sid2core.data.errors import DataError
from sid2core.data.load.shards import Layout
from sid2core.data.prepare import splits
from sid2core.data.prepare.counts import Reject, Tally
from sid2core.data.sources import opening, protocol
from sid2core.data.sources.protocol import Entry, Source

_SHOWN = 5


@dataclass
class Part:
    """A split of a source.

    Attributes:
        split: its name.
        source: where its images are.
        entries: what there is to write, in the order of writing.
        problems: what was set aside without a look inside.
        tally: what came of it all, when it is written.
        shards: the files that hold it, in order, when it is written.
    """

    split: str
    source: Source
    entries: Sequence[Entry]
    problems: Sequence[Reject]
    tally: Tally = field(default_factory=Tally)
    shards: list[str] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """Of its shards."""
        source = self.source
        return Layout(source.shape, source.class_names, self.split, source.captioned)

    @property
    def rejects(self) -> list[Reject]:
        """All that was set aside."""
        return [*self.problems, *self.tally.rejects]


def parts(data: config.Data, seed: int) -> list[Part]:
    """The splits of what ``data`` names.

    Raises:
        DataError: nothing is found, a class has nothing to train on, no image is left to judge by,
            or two sources' classes differ.
    """
    train, held_out = opening.opened(data)
    if held_out is None:
        made = _divided(train, data.train_fraction, seed)
    else:
        _check_same_classes(train, held_out, data.source.name)
        made = [
            _part(split, source, protocol.listed(source), seed)
            for split, source in zip(splits.SPLITS, (train, held_out), strict=True)
        ]
    for part in made:
        check_classes(part, Counter(entry.label for entry in part.entries))
    return made


def _divided(source: Source, train_fraction: float, seed: int) -> list[Part]:
    entries = protocol.listed(source)
    usable = [entry for entry in entries if entry.problem is None]
    by_split = splits.split(usable, source.class_names, train_fraction, seed, fixed=source.fixed)
    # What has no label may belong to no split; it is counted with the first.
    by_split["train"] += [entry for entry in entries if entry.problem is not None]
    return [_part(split, source, chosen, seed) for split, chosen in by_split.items()]


def _part(split: str, source: Source, entries: Sequence[Entry], seed: int) -> Part:
    usable = [entry for entry in entries if entry.problem is None]
    problems = [
        Reject.of(split, entry.key, entry.problem) for entry in entries if entry.problem is not None
    ]
    return Part(split, source, splits.mixed(usable, seed, grouped=source.grouped), problems)


def check_classes(part: Part, counts: Counter[int]) -> None:
    """Every class needs images to train on; to judge by, some image is enough.

    Raises:
        DataError: that is not so; ``counts`` are images by label.
    """
    missing = [name for label, name in enumerate(part.source.class_names) if not counts[label]]
    if not missing or (part.split != "train" and counts.total()):
        return
    msg = f"no image for {part.split} in {len(missing)} class(es), such as {missing[0]!r}"
    if part.rejects:
        msg += f"; {len(part.rejects)} were set aside: {told(part.rejects)}"
    cure = (
        "every class needs images to train on: repair or add images, or drop the class"
        if part.split == "train"
        else "there must be images to judge by: add some, or lower data.train_fraction"
    )
    raise DataError(f"{msg}; {cure}")


def told(rejects: Sequence[Reject]) -> str:
    """The commonest reasons, each with how often it came and with an example."""
    example = {reject.reason: reject.key for reject in reversed(rejects)}
    common = Counter(reject.reason for reject in rejects).most_common(_SHOWN)
    shown = [f"{count} × {reason} (such as {example[reason]})" for reason, count in common]
    return "; ".join(shown) + ("; …" if len(example) > _SHOWN else "")


def _check_same_classes(train: Source, held_out: Source, name: str) -> None:
    ours, theirs = set(train.class_names), set(held_out.class_names)
    if train.class_names == held_out.class_names:
        return
    only = [
        f"{len(names)} only in {key} ({', '.join(sorted(names)[:_SHOWN])})"
        for key, names in (("path", ours - theirs), ("eval_path", theirs - ours))
        if names
    ] or ["the same in another order"]
    msg = (
        f"{protocol.key_of(name, 'path')} has {len(ours)} classes and eval_path {len(theirs)}: "
        f"{'; '.join(only)}; "
        "labels follow the classes' names: rename, add or remove classes until both agree, or name "
        "them in class_names"
    )
    raise DataError(msg)
