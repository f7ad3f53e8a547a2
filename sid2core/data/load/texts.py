"""The tokens of captions, aligned with the rows of a split, as the stage ``text`` stored them.

Files are memory-mapped: in memory is what was used last, and of each open chunk where its captions
begin, 8 bytes each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sid2core.conditioning import Text, TextKind
from sid2core.data.errors import DataError
from sid2core.pipeline.artifact import Artifact

_OPEN = 64
"""Chunks that are mapped at once; each takes a file descriptor."""
Embed = Callable[[NDArray[np.int32], NDArray[np.bool_]], NDArray[Any]]
"""(ids [b, n], mask [b, n]) → vectors [b, n, d], on the host."""


@dataclass(frozen=True, eq=False)
class Texts:
    """The captions of one split.

    Attributes:
        artifact: of the stage ``text``, which has captions.
        split: its name.
        embed: makes vectors of ids, where vectors are not stored; without it they stay ids.
    """

    artifact: Artifact
    split: str
    embed: Embed | None = None

    @classmethod
    def open(cls, artifact: Artifact, split: str, rows: int, embed: Embed | None) -> Texts | None:
        """The captions of a split of ``rows`` rows; None if the data have none.

        Raises:
            DataError: the artifact is of other rows.
        """
        if artifact.metadata["text"] is None:
            return None
        texts = cls(artifact, split, embed)
        if len(texts._first) != rows + 1:
            msg = f"{artifact.folder} has captions of {len(texts._first) - 1} {split} rows"
            cure = "run `dvc repro --force text` to write it again"
            raise DataError(f"{msg}; there are {rows}; {cure}")
        return texts

    @functools.cached_property
    def kind(self) -> TextKind:
        """The condition that they are."""
        return TextKind.from_json(self._about["kind"])

    def numbers(self, rows: NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of one caption of each row, by its random word; 0 where it has none."""
        first, counts = self._first[rows], self._first[rows + 1] - self._first[rows]
        chosen = first + (words % np.maximum(counts, 1).astype(np.uint64)).astype(np.int64)
        found = self._caption[np.minimum(chosen, len(self._caption) - 1)] if any(counts) else 0
        return np.where(counts > 0, found, 0).astype(np.int64)

    def strings(self, numbers: NDArray[np.int64]) -> list[str]:
        """The captions of these numbers."""
        found: list[str] = self._strings.take(pa.array(numbers)).to_pylist()
        return found

    def tokens(self, numbers: NDArray[np.int64]) -> Text:
        """Tokens and mask of the captions of these numbers."""
        kind, count = self.kind, len(numbers)
        vectors = self._about["stored"] != "int32"
        shape = (count, kind.tokens, kind.channels) if vectors else (count, kind.tokens)
        tokens = np.zeros(shape, ml_dtypes.bfloat16 if vectors else np.int32)
        lengths = np.zeros(count, np.int64)
        for place, number in enumerate(numbers.tolist()):
            values, starts = self._chunk(number // self._size)
            start, stop = starts[number % self._size : number % self._size + 2]
            tokens[place, : stop - start] = values[start:stop]
            lengths[place] = stop - start
        mask = np.arange(kind.tokens) < lengths[:, None]
        if self.embed is None or vectors:
            return Text(tokens, mask)
        return Text(self.embed(tokens, mask), mask)

    @property
    def _about(self) -> Any:
        return self.artifact.metadata["text"]

    @property
    def _size(self) -> int:
        return int(self._about["chunk"])

    @functools.cached_property
    def _first(self) -> NDArray[np.int64]:
        return _mapped(self.artifact, f"{self.split}.first.npy")

    @functools.cached_property
    def _caption(self) -> NDArray[np.int32]:
        return _mapped(self.artifact, f"{self.split}.caption.npy")

    @functools.cached_property
    def _strings(self) -> Any:
        source = pa.memory_map(str(self.artifact.path("captions.arrow")))
        return pa.ipc.open_file(source).read_all().column(0)

    @functools.cached_property
    def _chunk(self) -> Callable[[int], tuple[NDArray[Any], NDArray[np.int64]]]:
        def read(number: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
            values = _mapped(self.artifact, f"chunks/values-{number:08d}.npy")
            starts = np.array(_mapped(self.artifact, f"chunks/starts-{number:08d}.npy"))
            half = values.dtype == np.uint16
            return (values.view(ml_dtypes.bfloat16) if half else values), starts

        return functools.lru_cache(maxsize=_OPEN)(read)


def _mapped(artifact: Artifact, name: str) -> NDArray[Any]:
    path = artifact.path(name)
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        msg = f"{path} cannot be read ({error}); run `dvc repro --force text` to write it again"
        raise DataError(msg) from error
    return mapped
