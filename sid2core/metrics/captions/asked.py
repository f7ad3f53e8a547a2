"""What images were made for: a caption each, and values of attributes where the data have any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sid2core.data.load.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Asked:
    """What n images were made for.

    Attributes:
        captions: [n].
        attributes: the values [n] of each attribute.
    """

    captions: Sequence[str]
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many images."""
        return len(self.captions)


def of_rows(
    dataset: Dataset, rows: NDArray[np.integer], captions: Sequence[str] | None = None
) -> Asked:
    """What the images of stored ``rows`` show.

    Args:
        dataset: a split with captions.
        rows: which records.
        captions: one of each row's; without it the first, or the empty text where it has none.
    """
    if captions is None:
        stored = dataset.column("captions")
        captions = [stored[row][0] if stored[row] else "" for row in rows.tolist()]
    names = dataset.attributes
    if not names:
        return Asked(captions)
    values = dataset.column("attributes")
    table = {name: [values[row][i] for row in rows.tolist()] for i, name in enumerate(names)}
    return Asked(captions, table)
