"""Precision, recall, density and coverage: features within the neighbourhoods of others.

Squared distances are |x|² + |y|² - 2 x·y in float64, after subtracting the reference's median, tile
by tile: memory holds the features and a few tiles. Two squared distances count as equal if they
differ by less than the rounding error of these sums. So ties (copies of images, a set compared with
itself) are decided by the definition, not by rounding.

ADM's evaluator takes distances of float16 features where they are finite, torch-fidelity and prdc
those of the features' own type; of continuous features all agree but for a few images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.metrics import features
from sid2core.metrics.errors import MetricsError

_TILE = 2048  # rows and columns: 32 MiB of distances


class PrecisionRecall(NamedTuple):
    """Shares of images, 0 to 1."""

    precision: float
    """Of generated ones that lie among the reference's."""
    recall: float
    """Of the reference's that lie among generated ones."""


class DensityCoverage(NamedTuple):
    """How often and how widely generated images lie among the reference's."""

    density: float
    """Neighbourhoods a generated image lies in, over k: 1 is expected of the same distribution."""
    coverage: float
    """Share of the reference's images that have a generated one in their neighbourhood."""


def precision_recall(reference: ArrayLike, generated: ArrayLike, k: int = 3) -> PrecisionRecall:
    """Precision = mean_j [∃ i: |x_i - y_j| ≤ r_k(x_i)], recall = the same with x and y changed.

    arXiv 1904.06991, equations 1 and 2: x are the reference's features, y the generated; r_k(x_i)
    is the distance of x_i from the k-th nearest other x. ADM, torch-fidelity and the authors use
    ``≤`` and k = 3; prdc uses ``<``. ADM and prdc take the reference first, as here, torch-fidelity
    the generated. Both scores depend on the counts: ADM takes 10,000 of the reference and 50,000
    generated.

    Args:
        reference: [n, d].
        generated: [m, d].
        k: which neighbour.

    Raises:
        MetricsError: k below 1, k vectors or fewer in a set, different sizes, or a value that is
            not finite.
    """
    real, fake = _sets(reference, generated, k)
    real_radii, fake_radii = _squared_radii(real, k), _squared_radii(fake, k)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for rows, columns, tile in _tiles(real, fake):
        precise[columns] |= tile.within(real_radii[rows, None]).any(axis=0)
        recalled[rows] |= tile.within(fake_radii[columns]).any(axis=1)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def density_coverage(reference: ArrayLike, generated: ArrayLike, k: int = 5) -> DensityCoverage:
    """Density = Σ_ij [|x_i - y_j| < r_k(x_i)] / (k m), coverage = mean_i [∃ j: the same].

    arXiv 2002.09797, with ``<`` and k = 5 as in prdc, the authors' code: a set
    compared with itself has density 1. x, y and r_k as in :func:`precision_recall`, errors too.
    """
    real, fake = _sets(reference, generated, k)
    radii = _squared_radii(real, k)
    inside, covered = 0, np.zeros(len(real), bool)
    for rows, _, tile in _tiles(real, fake):
        near = tile.inside(radii[rows, None])
        inside += int(near.sum())
        covered[rows] |= near.any(axis=1)
    return DensityCoverage(inside / (k * len(fake)), float(covered.mean()))


@dataclass(frozen=True, eq=False)
class _Set:
    """Vectors in their own type, and the origin that is subtracted when they are used."""

    values: NDArray[Any]
    origin: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def parts(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for start in range(0, len(self), _TILE):
            part = slice(start, start + _TILE)
            yield part, self.values[part] - self.origin


@dataclass(frozen=True, eq=False)
class _Tile:
    """Squared distances [rows, columns], and the bound of their rounding errors."""

    squared: NDArray[np.float64]
    slack: NDArray[np.float64]
    precision: float
    """``slack`` relative to the squared lengths of the vectors."""

    def within(self, squared_radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Distance ≤ radius."""
        return self.squared - self.slack <= squared_radii * (1 + self.precision)

    def inside(self, squared_radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Distance < radius."""
        return self.squared + self.slack < squared_radii * (1 - self.precision)


def _sets(reference: ArrayLike, generated: ArrayLike, k: int) -> tuple[_Set, _Set]:
    if not isinstance(k, int | np.integer) or k < 1:
        msg = f"k is {k}; expected a neighbour's number, 1 or more"
        raise MetricsError(msg)
    least = max(2, k + 1)
    real, fake = features.comparable(reference, generated, least, ("reference", "generated"))
    origin = np.median(real, axis=0).astype(np.float64)  # unlike a mean, robust to outliers
    return _Set(real, origin), _Set(fake, origin)


def _tiles(first: _Set, second: _Set) -> Iterator[tuple[slice, slice, _Tile]]:
    # Each of |x|², |y|², 2 x·y is wrong by d·eps/2 of |x|² + |y|² at most; so is a radius, whose
    # other end has |y|² ≤ 2 |x|² + 2 r². Twice that sum is on the safe side.
    precision = 8 * first.values.shape[1] * float(np.finfo(np.float64).eps)
    for rows, x in first.parts():
        x_lengths = np.square(x).sum(axis=1)[:, None]
        for columns, y in second.parts():
            lengths = x_lengths + np.square(y).sum(axis=1)
            squared = np.maximum(lengths - 2 * (x @ y.T), 0.0)
            yield rows, columns, _Tile(squared, precision * lengths, precision)


def _squared_radii(points: _Set, k: int) -> NDArray[np.float64]:
    """Squared distance of each point from its k-th nearest other, [n]."""
    nearest = np.full((len(points), k), np.inf)
    for rows, columns, tile in _tiles(points, points):
        if rows == columns:
            np.fill_diagonal(tile.squared, np.inf)  # no point is its own neighbour
        candidates = np.concatenate([nearest[rows], tile.squared], axis=1)
        nearest[rows] = np.partition(candidates, k - 1, axis=1)[:, :k]
    return nearest.max(axis=1)
