"""Which records train and which judge: a stratified split that hangs on keys alone.

Each record's rank is a hash of (seed, purpose, key), so neither the order of the source nor the
library versions matter, and a record added later moves few others across the border.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

from sid2core.data.errors import DataError
from sid2core.data.sources import Record

SPLITS = ("train", "eval")


def split(
    records: Iterable[Record], class_names: Sequence[str], train_fraction: float, seed: int
) -> dict[str, list[Record]]:
    """Records of ``train`` and ``eval``, each in the mixed order of :func:`mixed`.

    Of the n records of each class, in the order of sha256("seed/split/key"), the first
    floor(train_fraction n + 1/2) train and the rest judge.

    Raises:
        DataError: a class would have no record in one of the splits.
    """
    by_class: list[list[Record]] = [[] for _ in class_names]
    for record in records:
        by_class[record.label].append(record)
    parts: dict[str, list[Record]] = {name: [] for name in SPLITS}
    for name, members in zip(class_names, by_class, strict=True):
        border = math.floor(train_fraction * len(members) + 0.5)
        if not 0 < border < len(members):
            msg = (
                f"class {name!r} has {len(members)} record(s), of which data.train_fraction "
                f"{train_fraction} gives {border} to train and {len(members) - border} to eval; "
                "each split needs one at least: change data.train_fraction or drop the class"
            )
            raise DataError(msg)
        ordered = _by_hash(members, f"{seed}/split")
        parts["train"] += ordered[:border]
        parts["eval"] += ordered[border:]
    return {name: mixed(part, seed) for name, part in parts.items()}


def mixed(records: Iterable[Record], seed: int) -> list[Record]:
    """Records in the order of sha256("seed/order/key"): a shuffle that hangs on keys alone."""
    return _by_hash(records, f"{seed}/order")


def _by_hash(records: Iterable[Record], prefix: str) -> list[Record]:
    return sorted(
        records, key=lambda record: hashlib.sha256(f"{prefix}/{record.key}".encode()).digest()
    )
