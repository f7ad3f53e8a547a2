"""What there is to prepare: the entries of both splits, before anything is decoded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sid2core import conditioning, config
from sid2core.data.errors import DataError
from sid2core.data.load.shards import Layout
from sid2core.data.prepare import captions, splits
from sid2core.data.prepare.captions import Missing
from sid2core.data.prepare.counts import Reject, Tally
from sid2core.data.sources import opening, protocol
from sid2core.data.sources.protocol import Entry, Source
from sid2core.errors import few, printable

_SHOWN = 5
_log = logging.getLogger(__name__)


@dataclass
class Part:
    """A split of a source.

    Attributes:
        split: its name.
        source: where its images are.
        class_names: the name of each label; the source's, but for those that nothing uses.
        entries: what there is to write, in the order of writing.
        problems: what was set aside without a look inside.
        captions: whether captions are kept, if the source has any.
        tally: what came of it all, when it is written.
        shards: the files that hold it, in order, when it is written.
    """

    split: str
    source: Source
    class_names: tuple[str, ...]
    entries: Sequence[Entry]
    problems: Sequence[Reject]
    captions: bool = True
    tally: Tally = field(default_factory=Tally)
    shards: list[str] = field(default_factory=list)

    @property
    def captioned(self) -> bool:
        """Whether its records have captions."""
        return self.captions and self.source.captioned

    @property
    def layout(self) -> Layout:
        """Of its shards."""
        source = self.source
        names = tuple(protocol.attributes_of(source))
        return Layout(source.shape, self.class_names, self.split, self.captioned, names)

    @property
    def rejects(self) -> list[Reject]:
        """All that was set aside."""
        return [*self.problems, *self.tally.rejects]


def parts(data: config.Data, seed: int) -> list[Part]:
    """The splits of what ``data`` names.

    Raises:
        DataError: nothing is found, a class has nothing to train on, no image is left for
            evaluation, two sources' classes differ, or captions are missing.
    """
    train, held_out = opening.opened(data)
    if held_out is not None:
        _check_same_classes(train, held_out, data.source.name)
    sources = [train] if held_out is None else [train, held_out]
    names, entries = _used(train, [protocol.listed(source) for source in sources])
    if held_out is None:
        made = _divided(train, names, entries[0], data.train_fraction, seed)
    else:
        made = [
            _part(split, source, names, some, seed)
            for split, source, some in zip(splits.SPLITS, sources, entries, strict=True)
        ]
    kept = captions.agreed(sources, data)
    for part in made:
        part.captions = kept
        check_classes(part, Counter(entry.label for entry in part.entries))
    if kept:
        every = [entry for part in made for entry in part.entries]
        bare = sorted(entry.key for entry in every if entry.captioned is False)
        suggestions = [
            line for one in sources for line in protocol.caption_files_of(one).suggestions
        ]
        Missing(data.max_missing_captions, len(every)).check(len(bare), bare, suggestions)
    return made


def _used(
    source: Source, entries: Sequence[list[Entry]]
) -> tuple[tuple[str, ...], Sequence[list[Entry]]]:
    """Class names and entries, without the names that the source has to spare."""
    names = source.class_names
    found = {entry.label for some in entries for entry in some if entry.problem is None}
    kept = [label for label in range(len(names)) if label in found]
    if not protocol.fields_of(source).spare_classes or len(kept) in (0, len(names)):
        return names, entries
    spare = [name for label, name in enumerate(names) if label not in found]
    _log.info("%d class name(s) without an image are dropped: %s", len(spare), few(spare))
    label_of = {old: new for new, old in enumerate(kept)}
    relabelled = [
        [replace(entry, label=label_of.get(entry.label, -1)) for entry in some] for some in entries
    ]
    return tuple(names[label] for label in kept), relabelled


def _divided(
    source: Source,
    names: tuple[str, ...],
    entries: Sequence[Entry],
    train_fraction: float,
    seed: int,
) -> list[Part]:
    usable = [entry for entry in entries if entry.problem is None]
    by_split = splits.split(usable, names, train_fraction, seed, fixed=source.fixed)
    # An entry with a problem may have no label, and so no split: it is counted with the first.
    by_split["train"] += [entry for entry in entries if entry.problem is not None]
    return [_part(split, source, names, chosen, seed) for split, chosen in by_split.items()]


def _part(
    split: str, source: Source, names: tuple[str, ...], entries: Sequence[Entry], seed: int
) -> Part:
    usable = [entry for entry in entries if entry.problem is None]
    problems = [
        Reject.of(split, entry.key, entry.problem) for entry in entries if entry.problem is not None
    ]
    ordered = splits.mixed(usable, seed, grouped=source.grouped)
    return Part(split, source, names, ordered, problems)


def check_classes(part: Part, counts: Counter[int]) -> None:
    """Every class needs images to train on; for evaluation, some image is enough.

    Images without labels have no class that a message could name.

    Raises:
        DataError: that is not so; ``counts`` are images by label.
    """
    missing = [name for label, name in enumerate(part.class_names) if not counts[label]]
    if not missing or (part.split != "train" and counts.total()):
        return
    unlabelled = part.class_names == conditioning.UNLABELLED
    msg = f"no image for {part.split}"
    if not unlabelled:
        msg += f" in {len(missing)} class(es), such as {missing[0]!r}"
    if part.rejects:
        msg += f"; {len(part.rejects)} were set aside: {summary(part.rejects)}"
    if part.split != "train":
        cure = "there must be images to evaluate with: add some, or lower data.train_fraction"
    elif unlabelled:
        cure = "there must be images to train on: repair or add some, or raise data.train_fraction"
    else:
        cure = "every class needs images to train on: repair or add images, or drop the class"
    raise DataError(f"{msg}; {cure}")


def summary(rejects: Sequence[Reject]) -> str:
    """The commonest reasons, each with how often it came and with an example."""
    example = {reject.reason: reject.key for reject in reversed(rejects)}
    common = Counter(reject.reason for reject in rejects).most_common(_SHOWN)
    shown = [
        f"{count} × {printable(reason)} (such as {few([example[reason]])})"
        for reason, count in common
    ]
    return "; ".join(shown) + ("; …" if len(example) > _SHOWN else "")


def _check_same_classes(train: Source, held_out: Source, name: str) -> None:
    if train.class_names == held_out.class_names:
        return
    ours, theirs = (
        set[str]() if one.class_names == conditioning.UNLABELLED else set(one.class_names)
        for one in (train, held_out)
    )
    only = [
        f"{len(names)} only in {key} ({few(sorted(names))})"
        for key, names in (("path", ours - theirs), ("eval_path", theirs - ours))
        if names
    ] or ["the same in another order"]
    msg = (
        f"{protocol.key_of(name, 'path')} has {len(ours) or 'no'} classes and eval_path "
        f"{len(theirs) or 'none'}: {'; '.join(only)}; "
        "labels follow the classes' names: rename, add or remove classes until both agree, name "
        "them in class_names, or set eval_path to null, if its images have no labels"
    )
    raise DataError(msg)
