"""Which entries train and which judge: a stratified split that hangs on keys alone.

Each entry's rank is a hash of (seed, purpose, key), so neither the order of the source nor the
library versions matter, and an entry added later moves few others across the border.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from sid2core.data.errors import DataError
from sid2core.data.records import Entry

SPLITS = ("train", "eval")


def split(
    entries: Iterable[Entry], class_names: Sequence[str], train_fraction: float, seed: int
) -> dict[str, list[Entry]]:
    """Entries of ``train`` and ``eval``, each in the mixed order of :func:`mixed`.

    Of the n entries of each class, in the order of sha256("seed/split/key"), the first
    floor(train_fraction n + 1/2) train and the rest judge.

    Raises:
        DataError: a class would have no entry in one of the splits.
    """
    by_class: list[list[Entry]] = [[] for _ in class_names]
    for entry in entries:
        by_class[entry.label].append(entry)
    parts: dict[str, list[Entry]] = {name: [] for name in SPLITS}
    for name, members in zip(class_names, by_class, strict=True):
        border = math.floor(train_fraction * len(members) + 0.5)
        if not 0 < border < len(members):
            msg = (
                f"class {name!r} has {len(members)} image(s), of which data.train_fraction "
                f"{train_fraction} gives {border} to train and {len(members) - border} to eval; "
                "each split needs one at least: change data.train_fraction, or add images to the "
                "class or drop it"
            )
            raise DataError(msg)
        ordered = _by_hash(members, f"{seed}/split")
        parts["train"] += ordered[:border]
        parts["eval"] += ordered[border:]
    return {name: mixed(part, seed) for name, part in parts.items()}


def mixed(entries: Iterable[Entry], seed: int) -> list[Entry]:
    """Entries in the order of sha256("seed/order/key"): a shuffle that hangs on keys alone."""
    return _by_hash(entries, f"{seed}/order")


def _by_hash(entries: Iterable[Entry], prefix: str) -> list[Entry]:
    return sorted(entries, key=lambda entry: _digest(f"{prefix}/{entry.key}"))


def _digest(text: str) -> bytes:
    # File names that are not UTF-8 come with surrogates, and stand for the bytes they were.
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
