"""What predicted clips are compared with: a copy of the last given frame, and real clips.

All sets here are of the eval split. The first ``count`` conditions of samples are given frames of
its records (:func:`rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation.drawing import EvaluationRun, RealSet, Source
from sid2core.evaluation.samplers_table import COPY, OTHERS

WINDOWS = "windows"
"""The real clips of the samples' own conditions, a further reference beside both splits."""
_FEWEST = 6
"""Samples that the scores of sets need."""


@dataclass(frozen=True, eq=False)
class CopySet(RealSet):
    """Clips whose predicted frames repeat the last given one."""

    def source(self, run: EvaluationRun) -> Source:
        """The data set."""
        real = super().source(run)

        def images(
            indices: NDArray[np.integer], condition: Condition
        ) -> tuple[NDArray[np.uint8], list[float]]:
            assert self.spec.given is not None
            return copied(real(indices, condition)[0], self.spec.given.shape[0]), []

        return images


def copied(clips: NDArray[np.uint8], given: int) -> NDArray[np.uint8]:
    """Clips [n, f, h, w, c] whose frames from ``given`` on repeat the one before."""
    order = np.minimum(np.arange(clips.shape[1]), given - 1)
    return clips[:, order]


def rows(data: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    """The records whose given frames the samples have, [count]; a record may occur repeatedly."""
    return conditioning.captioned(count, len(data), seed)[0]


def windows(data: Dataset, spec: ConditionSpec, count: int, seed: int) -> RealSet | None:
    """The real clips of the samples' own conditions; None without given frames.

    Each stands once, so there may be fewer than ``count``.
    """
    if spec.given is None:
        return None
    return RealSet(WINDOWS, data, spec, np.unique(rows(data, count, seed)))


def sets(data: Dataset, spec: ConditionSpec, count: int, seed: int) -> list[RealSet]:
    """The baselines that are rows of the table: none without given frames.

    Real clips of other videos are those of the eval split whose given frames no sample has,
    ``count`` at most; the row is absent if fewer than six are left.

    Args:
        data: the eval split.
        spec: of the model.
        count: how many samples are measured.
        seed: of the run.
    """
    if spec.given is None:
        return []
    own = rows(data, count, seed)
    found: list[RealSet] = [CopySet(COPY, data, spec, own)]
    others = np.setdiff1d(np.arange(len(data)), own)[:count]
    if len(others) >= _FEWEST:
        found.append(RealSet(OTHERS, data, spec, others))
    return found
