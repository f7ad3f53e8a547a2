"""Which entries are of which split, and in which order they are written: by hashes of keys.

Each entry's rank is a hash of (seed, purpose, key), so neither the order of the source nor the
library versions matter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from sid2core.data.errors import DataError
from sid2core.data.sources.protocol import GROUPS_AT_HAND, Entry

SPLITS = ("train", "eval")
_WORDS = 2.0**64


def split(
    entries: Iterable[Entry],
    class_names: Sequence[str],
    train_fraction: float,
    seed: int,
    *,
    fixed: bool,
) -> dict[str, list[Entry]]:
    """Entries of ``train`` and ``eval``, as listed; u(key) = sha256("seed/split/key") in [0, 1).

    The key of a clip is here that of its video, so that all clips of a video are in one split.

    A ``fixed`` source is split by exact counts: of the n entries of each class, in the order of u,
    the first floor(train_fraction n + 1/2) train and the rest are for evaluation. Of any other
    source an entry trains where u < train_fraction, so that adding entries moves none; but the one
    of least u in its class trains always. Entries that name their split are in that one and do not
    count for the others of their class.

    Raises:
        DataError: an exact count would leave a class without an entry in one of the splits.
    """
    by_class: list[list[tuple[float, str, Entry]]] = [[] for _ in class_names]
    named: set[int] = set()
    parts: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    for entry in entries:
        if entry.split is not None:
            parts[entry.split].append(entry)
            named.add(entry.label)
            continue
        digest = _digest(f"{seed}/split/{entry.key if entry.video is None else entry.video}")
        place = int.from_bytes(digest[:8], "big") / _WORDS
        by_class[entry.label].append((place, entry.key, entry))
    for label, (name, members) in enumerate(zip(class_names, by_class, strict=True)):
        if not members and label in named:
            continue
        members.sort(key=lambda member: member[:2])
        if fixed:
            border = _border(name, len(members), train_fraction)
        else:
            places = [place for place, *_ in members]
            least = places.count(min(places, default=0.0))
            border = max(least, sum(one < train_fraction for one in places))
        parts["train"] += [entry for *_, entry in members[:border]]
        parts["eval"] += [entry for *_, entry in members[border:]]
    return parts


def mixed(entries: Iterable[Entry], seed: int, *, grouped: bool) -> list[Entry]:
    """Entries in the order of sha256("seed/order/key"): a shuffle that depends on keys alone.

    Of a ``grouped`` source whole groups are shuffled so, then the entries of every few groups
    that have come to follow one another: each group is read but once.
    """
    if not grouped:
        return _by_hash(entries, seed)
    groups: dict[int, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    order = sorted(groups, key=lambda group: _digest(f"{seed}/group/{group}"))
    return [
        entry
        for start in range(0, len(order), GROUPS_AT_HAND)
        for entry in _by_hash(
            (one for group in order[start : start + GROUPS_AT_HAND] for one in groups[group]), seed
        )
    ]


def _border(name: str, count: int, train_fraction: float) -> int:
    border = math.floor(train_fraction * count + 0.5)
    if 0 < border < count:
        return border
    msg = (
        f"class {name!r} has {count} image(s), of which data.train_fraction {train_fraction} gives "
        f"{border} to train and {count - border} to eval; each split needs one at least: change "
        "data.train_fraction, or let the source give more images"
    )
    raise DataError(msg)


def _by_hash(entries: Iterable[Entry], seed: int) -> list[Entry]:
    return sorted(entries, key=lambda entry: _digest(f"{seed}/order/{entry.key}"))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
