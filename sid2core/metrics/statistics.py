"""Mean and covariance of features: gathered chunk by chunk, kept in a file that says what it is."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core.metrics import frechet
from sid2core.metrics.errors import MetricsError

DESCRIPTIVE = frozenset({"split", "data"})
"""Provenance that may differ between two statistics that are compared."""


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Count, mean and sum of outer products of deviations, of feature vectors, in float64."""

    n: int
    mean: NDArray[np.float64]
    """[d]."""
    m2: NDArray[np.float64]
    """Σ (f - mean)(f - mean)ᵀ, [d, d]."""

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureStatistics:
        """The statistics of ``features`` [n, d]; n may be 0.

        Raises:
            MetricsError: another rank, or a value that is not finite.
        """
        values = np.asarray(features, np.float64)
        if values.ndim != 2:
            msg = f"features have shape {values.shape}; expected [n, d]"
            raise MetricsError(msg)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values).all(axis=1)).sum())
            msg = f"{bad} of {len(values)} feature vectors are not finite; look at their images"
            raise MetricsError(msg)
        mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
        deviations = values - mean
        return cls(len(values), mean, deviations.T @ deviations)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """m2 = m2_a + m2_b + n_a n_b / n (mean_b - mean_a)(mean_b - mean_a)ᵀ (Chan et al. 1979).

        Raises:
            MetricsError: the numbers of features differ.
        """
        if self.mean.shape != other.mean.shape:
            msg = (
                f"cannot merge {self.mean.size} features with {other.mean.size}; use one extractor"
            )
            raise MetricsError(msg)
        n = self.n + other.n
        if n == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        outer = np.outer(delta, delta) * (self.n * other.n / n)
        return FeatureStatistics(n, mean, self.m2 + other.m2 + outer)

    def moments(self, provenance: Mapping[str, Any]) -> Moments:
        """Mean and covariance m2 / (n - 1), with what they were made from.

        Raises:
            MetricsError: fewer than two vectors.
        """
        if self.n < 2:
            msg = f"a covariance needs 2 feature vectors or more, found {self.n}; add samples"
            raise MetricsError(msg)
        return Moments(self.n, self.mean, self.m2 / (self.n - 1), dict(provenance))


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance (with N - 1) of n feature vectors, and their provenance.

    Provenance is a flat mapping of JSON values: extractor, its digest, image shape, data, split.
    All but :data:`DESCRIPTIVE` must agree between moments that are compared.
    """

    n: int
    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    provenance: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write an npz with ``mu``, ``sigma``, ``n`` and ``provenance`` (JSON text)."""
        text = json.dumps(dict(self.provenance), sort_keys=True)
        with path.open("wb") as file:
            np.savez(file, mu=self.mu, sigma=self.sigma, n=self.n, provenance=np.array(text))

    @classmethod
    def load(cls, path: Path) -> Moments:
        """Read what :meth:`save` wrote.

        Raises:
            MetricsError: the file is missing, no npz, or lacks one of the four entries.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                mu, sigma = (file[name].astype(np.float64) for name in ("mu", "sigma"))
                n, provenance = int(file["n"]), json.loads(str(file["provenance"]))
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            msg = (
                f"{path} cannot be read as feature statistics ({error}); expected an npz with "
                "mu, sigma, n and provenance: run `dvc repro reference` to make it again"
            )
            raise MetricsError(msg) from None
        if mu.ndim != 1 or sigma.shape != (mu.size, mu.size) or not isinstance(provenance, dict):
            msg = f"{path} has mu {mu.shape} and sigma {sigma.shape}; expected [d] and [d, d]"
            raise MetricsError(msg)
        return cls(n, mu, sigma, provenance)


def check_comparable(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Refuse two provenances that differ in what must agree.

    Raises:
        MetricsError: names each entry that differs.
    """
    names = (set(first) | set(second)) - DESCRIPTIVE
    wrong = [
        f"{name} ({first.get(name)!r} against {second.get(name)!r})"
        for name in sorted(names)
        if first.get(name) != second.get(name)
    ]
    if wrong:
        msg = (
            f"statistics cannot be compared, they differ in {', '.join(wrong)}: "
            "make both with one extractor and the same settings"
        )
        raise MetricsError(msg)


def distance(first: Moments, second: Moments) -> float:
    """The Fréchet distance of two comparable moments; errors as there and in the check."""
    check_comparable(first.provenance, second.provenance)
    return frechet.frechet_distance(first.mu, first.sigma, second.mu, second.sigma)
