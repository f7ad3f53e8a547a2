"""What the manifest says of captions, from the shards that were written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


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
