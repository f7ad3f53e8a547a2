"""Texts as token ids of a fixed number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

PAD, END = 0, 1


class Tokens:
    """Calls a tokenizer of the library ``tokenizers``."""

    def __init__(self, tokenizer: Tokenizer, first: int):
        self.tokenizer, self.first = tokenizer, first

    @classmethod
    def from_pretrained(cls, folder: str | Path, **_: Any) -> Tokens:
        """The tokenizer of a folder with ``tokenizer.json`` and ``encoder.json``."""
        described = json.loads((Path(folder) / "encoder.json").read_text(encoding="utf-8"))
        # A learned vocabulary begins after padding and end; that of a T5 contains them.
        first = END + 1 if described["encoder"]["name"] == "learned" else 0
        return cls(Tokenizer.from_file(str(Path(folder) / "tokenizer.json")), first)

    def __call__(self, texts: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 ``[b, count]`` with the end token, and where there is a token."""
        ids = np.full((len(texts), count), PAD, np.int32)
        mask = np.zeros((len(texts), count), bool)
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for row, one in enumerate(encoded):
            kept = [self.first + number for number in one.ids[: count - 1]]
            ids[row, : len(kept) + 1] = [*kept, END]
            mask[row, : len(kept) + 1] = True
        return ids, mask
