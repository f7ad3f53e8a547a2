"""Whether captions are written, how many may be missing, and what the manifest says of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sid2core import config
from sid2core.data.errors import DataError
from sid2core.data.sources import protocol
from sid2core.data.sources.protocol import Source
from sid2core.errors import few, printable

_log = logging.getLogger(__name__)
_EXAMPLES, _TEXTS, _CHARACTERS = 8, 3, 300
"""Records in the manifest, captions of each, and characters of these."""


def agreed(sources: Sequence[Source], data: config.Data) -> bool:
    """Whether captions are kept: the sources of both splits have them, and `captions` is not none.

    Raises:
        DataError: only one of them has, none has although ``data.captions`` is required, or there
            are neither classes nor captions, but files that are nearly captions.
    """
    if data.captions == "none":
        return False
    captioned = [source.captioned for source in sources]
    near = [line for one in sources for line in protocol.caption_files_of(one).suggestions]
    where = protocol.key_of(data.source.name, "path")
    if any(captioned):
        if not all(captioned):
            keys = ("path has captions and eval_path", "eval_path has captions and path")
            msg = f"data.source.{data.source.name}: {keys[captioned[1]]} has none: add them"
            raise DataError(f"{msg}, or set data.captions to none{_listed(near)}")
        return True
    if data.captions == "required":
        msg = f"{where}: there are no captions, and data.captions is required{_listed(near)}"
        raise DataError(f"{msg}: add captions (docs/data.md lists the layouts)")
    unlabelled = all(len(source.class_names) == 1 for source in sources)
    if near and unlabelled and not data.unlabelled:
        msg = f"{where} has neither classes nor captions{_listed(near)}: rename or convert them"
        raise DataError(f"{msg}, or set data.captions to none")
    for line in near:
        _log.warning("%s: %s", where, printable(line))
    return False


@dataclass(frozen=True)
class Missing:
    """The share of images that may have no caption."""

    fraction: float
    total: int

    def check(
        self, missing: int, examples: Sequence[str] = (), suggestions: Sequence[str] = ()
    ) -> None:
        """Compare a count with it.

        Raises:
            DataError: more captions are missing.
        """
        if missing <= self.fraction * self.total:
            return
        such = f", such as {few(examples, 3)}" if examples else ""
        msg = f"{missing} of {self.total} images have no caption{such}; data.max_missing_captions "
        msg += f"allows a share of {self.fraction:g}{_listed(suggestions)}"
        raise DataError(f"{msg}: add captions, raise the limit, or set data.captions to none")


def _listed(suggestions: Sequence[str]) -> str:
    return "".join(f"; {printable(line)}" for line in suggestions[:3])


def examples(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The first records of the first shard that have captions: their rows, and captions cut."""
    found = list[dict[str, Any]]()
    row = 0
    for captions in _lists(paths[:1]):
        for texts in captions.to_pylist():
            if len(found) == _EXAMPLES:
                return found
            if texts:
                found.append({"row": row, "captions": [_cut(text) for text in texts[:_TEXTS]]})
            row += 1
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"


def summary(paths: Sequence[Path]) -> dict[str, Any]:
    """Counts and lengths of the captions in the shards ``paths``; 12 bytes of memory a caption.

    ``missing`` counts images without any caption, ``empty`` captions without a character, and
    ``duplicates`` captions that equal an earlier one. Lengths are in characters (code points).
    """
    images = missing = 0
    lengths, digests = [np.zeros(0, np.int32)], [np.zeros(0, np.uint64)]
    for captions in _lists(paths):
        counts = captions.value_lengths().to_numpy()
        images, missing = images + len(counts), missing + int((counts == 0).sum())
        texts = captions.flatten()
        lengths.append(pc.utf8_length(texts).to_numpy().astype(np.int32))
        digests.append(np.array([_digest(text) for text in texts.to_pylist()], np.uint64))
    length = np.concatenate(lengths)
    distinct = len(np.unique(np.concatenate(digests)))
    return {
        "images": images,
        "missing": missing,
        "captions": len(length),
        "empty": int((length == 0).sum()),
        "distinct": distinct,
        "duplicates": len(length) - distinct,
        "characters": {
            "median": int(np.median(length)) if len(length) else 0,
            "max": int(length.max(initial=0)),
        },
    }


def _lists(paths: Sequence[Path]) -> Iterator[pa.ListArray]:
    """The column ``captions`` in stored order, some thousand rows at a time."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["captions"]):
                yield batch.column(0)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
