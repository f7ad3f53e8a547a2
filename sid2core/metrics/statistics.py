"""Mean and covariance of features: summed chunk by chunk, stored with their provenance."""

from __future__ import annotations

import contextlib
import functools
import json
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sid2core import atomic, stand_ins
from sid2core.metrics import frechet
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.provenance import check_comparable, check_expected, declared

_AGAIN = "run `dvc repro reference` to make it again"
_FETCH = "fetch or make it anew"
_UNKNOWN = 0
"""The number of images in a file if it is unknown."""


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
        """Mean and covariance m2 / (n - 1), with their provenance.

        Raises:
            MetricsError: fewer than two vectors.
        """
        if self.n < 2:
            msg = f"a covariance needs 2 feature vectors or more, found {self.n}; add samples"
            raise MetricsError(msg)
        return Moments(self.n, self.mean, self.m2 / (self.n - 1), dict(provenance))

    def save(self, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
        """Write an npz with ``n``, ``mean``, ``m2`` and ``provenance``, whole or not at all."""
        _write(path, provenance or {}, n=self.n, mean=self.mean, m2=self.m2)

    @classmethod
    def load(cls, path: Path, provenance: Mapping[str, Any] | None = None) -> FeatureStatistics:
        """Read what :meth:`save` wrote; ``provenance``, where given, must be that of the file.

        Raises:
            MetricsError: the file is missing, damaged, of another kind or another provenance.
        """
        cure = "delete it, and run again what made it"
        with _opened(path, ("n", "mean", "m2", "provenance"), cure) as file:
            mean, m2 = _numbers(file, "mean", "m2")
            n, stored = int(file["n"]), _provenance(file)
        _checked(path, mean, m2)
        if n < 0:
            msg = f"{path} has {n} feature vectors; {cure}"
            raise MetricsError(msg)
        if provenance is not None:
            check_comparable(stored, provenance)
        return cls(n, mean, m2)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance (with N - 1) of n feature vectors, and their provenance.

    The entries of the provenance, and which of them must agree between moments that are compared,
    are described in :mod:`sid2core.metrics.provenance`.
    """

    n: int | None
    """None if a file from outside does not state it."""
    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    provenance: Mapping[str, Any]

    @functools.cached_property
    def normal(self) -> frechet.Normal:
        """The normal distribution of this mean and covariance; its root is computed once."""
        return frechet.Normal(self.mu, self.sigma)

    @functools.cached_property
    def bias_constant(self) -> float:
        """C of :func:`sid2core.metrics.frechet.bias_constant`."""
        return frechet.bias_constant(self.sigma)

    def save(self, path: Path) -> None:
        """Write an npz with ``mu``, ``sigma``, ``n`` and ``provenance`` (JSON text), atomically.

        pytorch-fid and other programs that read ``mu`` and ``sigma`` can use it.
        """
        n = _UNKNOWN if self.n is None else self.n
        _write(path, self.provenance, mu=self.mu, sigma=self.sigma, n=n)

    @classmethod
    def load(cls, path: Path) -> Moments:
        """Read what :meth:`save` wrote.

        Raises:
            MetricsError: the file is missing, no npz, lacks one of the four entries, or its arrays
                are not a mean and a covariance.
        """
        with _opened(path, ("mu", "sigma", "n", "provenance"), _AGAIN) as file:
            mu, sigma = _numbers(file, "mu", "sigma")
            n, provenance = int(file["n"]), _provenance(file)
        _checked(path, mu, sigma)
        return cls(n or None, mu, sigma, provenance)

    @classmethod
    def published(
        cls,
        path: Path,
        declaration: Mapping[str, Any],
        *,
        size: int | None = None,
        spatial: bool = False,
    ) -> Moments:
        """Read statistics from outside: any npz of ``mu`` and ``sigma``.

        This is the format of pytorch-fid, EDM, MAR and JiT, and of ADM's ``VIRTUAL_*.npz``, whose
        images are not read. Nothing is unpickled.

        Args:
            path: the file.
            declaration: provenance that the file lacks, ``extractor`` and ``mode`` at least, and
                ``n`` where the number of images is known. It is recorded as declared.
            size: how many features there must be, such as 2048.
            spatial: read ADM's ``mu_s`` and ``sigma_s``, which are those of sFID.

        Raises:
            MetricsError: as :meth:`load`, or another number of features; the declaration names
                no extractor, or contradicts the file.
        """
        names = ("mu_s", "sigma_s") if spatial else ("mu", "sigma")
        with _opened(path, names, _FETCH) as file:
            mu, sigma = _numbers(file, *names)
            stored = _provenance(file) if "provenance" in file.files else {}
            if "n" in file.files and int(file["n"]) != _UNKNOWN:
                stored["n"] = int(file["n"])
        _checked(path, mu, sigma)
        if size is not None and mu.size != size:
            msg = f"{path} has {mu.size} features; expected {size}: give statistics of that network"
            raise MetricsError(msg)
        provenance = declared(stored, declaration, str(path))
        return cls(provenance.pop("n", None), mu, sigma, provenance)

    def check_expected(self, expected: Mapping[str, Any], origin: str) -> None:
        """Check the provenance, or ``n``, against the ``expected`` entries.

        Raises:
            MetricsError: names ``origin`` and each entry that differs.
        """
        check_expected({**self.provenance, "n": self.n}, expected, origin)


def distance(first: Moments, second: Moments, despite: Collection[str] = ()) -> float:
    """The Fréchet distance of two comparable moments; errors as there and in the check."""
    check_comparable(first.provenance, second.provenance, despite)
    return frechet.distance(first.normal, second.normal)


def is_statistics(path: Path) -> bool:
    """Whether it is an npz with ``mu`` and ``sigma``; the arrays are not read."""
    with contextlib.suppress(zipfile.BadZipFile):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                return {"mu.npy", "sigma.npy"} <= set(file.namelist())
    return False


def _write(path: Path, provenance: Mapping[str, Any], **arrays: ArrayLike) -> None:
    text = np.array(json.dumps(dict(provenance), sort_keys=True))
    atomic.write_npz(path, {**arrays, "provenance": text})


@contextlib.contextmanager
def _opened(path: Path, names: Collection[str], cure: str) -> Iterator[np.lib.npyio.NpzFile]:
    """The npz at ``path`` with these entries; errors in the body name the cure."""
    expected = f"expected an npz with {', '.join(names)}: {cure}"
    stand_ins.check_file(path, MetricsError, expected)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                msg = (
                    f"{path} has no {', '.join(missing)} but {', '.join(file.files) or 'nothing'}; "
                    f"{expected}"
                )
                raise MetricsError(msg)
            yield file
    except (MetricsError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # zipfile, its unpackers and NumPy raise any exception for damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"{path} cannot be read as feature statistics ({reason}); {expected}"
        raise MetricsError(msg) from error


def _numbers(file: np.lib.npyio.NpzFile, *names: str) -> Iterator[NDArray[np.float64]]:
    for name in names:
        values = file[name]
        if values.dtype.kind not in "fiu":
            msg = f"{name} is {values.dtype}, expected real numbers"
            raise TypeError(msg)
        yield values.astype(np.float64)


def _provenance(file: np.lib.npyio.NpzFile) -> dict[str, Any]:
    provenance = json.loads(str(file["provenance"]))
    if not isinstance(provenance, dict):
        msg = f"its provenance is {provenance!r}, expected names and values"
        raise TypeError(msg)
    return provenance


def _checked(path: Path, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> None:
    try:
        frechet.checked(mean, covariance, "stored")
    except MetricsError as error:
        msg = f"{path}: {error}"
        raise MetricsError(msg) from None
