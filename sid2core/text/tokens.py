"""Token ids in arrays of a fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sid2core.errors import few
from sid2core.text.errors import TextError

PAD, END = 0, 1
"""The ids of padding and of the end of a text, in every tokenizer here."""


class Tokens(NamedTuple):
    """The ids of k texts, the end token of each included."""

    ids: NDArray[np.int32]
    """[k, n]; :data:`PAD` from a text's length on."""
    lengths: NDArray[np.int32]
    """[k], 1 to n; 1 is the empty text."""
    truncated: NDArray[np.bool_]
    """[k]: which texts were longer, so that tokens before the end token are missing."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[k, n]: where there is a token."""
        return np.arange(self.ids.shape[1]) < self.lengths[:, None]


def fixed(pieces: Sequence[Sequence[int]], max_tokens: int) -> Tokens:
    """Texts of any length without end token, as arrays of ``max_tokens`` with it."""
    ids = np.full((len(pieces), max_tokens), PAD, np.int32)
    lengths = np.empty(len(pieces), np.int32)
    for row, (one, out) in enumerate(zip(pieces, ids, strict=True)):
        kept = one[: max_tokens - 1]
        out[: len(kept)] = kept
        out[len(kept)] = END
        lengths[row] = len(kept) + 1
    truncated = np.array([len(one) >= max_tokens for one in pieces], bool)
    return Tokens(ids, lengths, truncated)


def check_unicode(texts: Sequence[str]) -> None:
    """Check that texts can be encoded.

    Raises:
        TextError: one has half of a surrogate pair, as names of files that are no UTF-8 do.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            msg = f"{few([text])}: found {text[error.start]!r}, expected valid Unicode"
            raise TextError(f"{msg}; write the text again as UTF-8") from None
