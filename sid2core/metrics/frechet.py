"""The Fréchet distance between two normal distributions, in float64."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpstrf

from sid2core.metrics.errors import MetricsError

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """|mu1 - mu2|² + tr(S1 + S2 - 2 (S1 S2)^½), with tr (S1 S2)^½ = Σ singular values of AᵀB.

    arXiv 1706.08500, equation 6; S1 = A Aᵀ and S2 = B Bᵀ by Cholesky with pivots, so singular
    covariances are as exact as others. A negative result can only be rounding and becomes 0.

    Args:
        mu1: mean [d] of the first.
        sigma1: covariance [d, d] of the first.
        mu2: mean [d] of the second.
        sigma2: covariance [d, d] of the second.

    Raises:
        MetricsError: shapes do not match, a value is not finite, or a covariance is not
            symmetric or not positive semidefinite.
    """
    second = Normal(mu2, sigma2, "second")
    return distance(Normal(mu1, sigma1, "first"), second)


class Normal:
    """A normal distribution N(mean, covariance); the root of its covariance is computed once."""

    def __init__(self, mu: ArrayLike, sigma: ArrayLike, which: str = "given") -> None:
        """Mean [d] and covariance [d, d]; ``which`` names them in errors.

        Raises:
            MetricsError: as :func:`checked`.
        """
        self.mean, self.covariance = checked(mu, sigma, which)
        self._which = which

    @functools.cached_property
    def root(self) -> Matrix:
        """A [d, rank] with covariance = A Aᵀ.

        Raises:
            MetricsError: the covariance is not positive semidefinite.
        """
        return _root(self.covariance, self._which)


def distance(first: Normal, second: Normal) -> float:
    """:func:`frechet_distance` of two normal distributions.

    Raises:
        MetricsError: their numbers of features differ, or a covariance is not positive
            semidefinite.
    """
    if first.mean.shape != second.mean.shape:
        msg = (
            f"the first has {first.mean.size} features, the second {second.mean.size}; "
            "both must come from one extractor"
        )
        raise MetricsError(msg)
    overlap = 0.0
    if first.root.size and second.root.size:
        overlap = float(np.linalg.svd(first.root.T @ second.root, compute_uv=False).sum())
    difference = first.mean - second.mean
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    return max(0.0, float(difference @ difference) + traces - 2.0 * overlap)


def transport(source: Normal, target: Normal) -> Matrix:
    """W [d, rank] with W Wᵀ = T, the optimal map from source to target: T S1 T = S2.

    With S1 = A Aᵀ, S2 = B Bᵀ and AᵀB = U diag(s) Vᵀ, W = B V diag(s)^-½. For singular
    covariances T maps the subspace that both have in common.
    """
    if not source.root.size or not target.root.size:
        return np.empty((len(target.covariance), 0))
    _, values, vectors = np.linalg.svd(source.root.T @ target.root, full_matrices=False)
    kept = values > len(target.covariance) * np.finfo(np.float64).eps * values[0]
    return target.root @ vectors[kept].T / np.sqrt(values[kept])


def bias_constant(sigma: ArrayLike) -> float:
    """C = tr S + ½ Σ_ij l_i l_j (1 + δ_ij) / (l_i + l_j), with l the eigenvalues of S.

    The second-order expansion of the distance between N(mu, S) and the moments (covariance with
    N - 1) of N of its own samples: the expected distance of N samples lies C / N above the
    distance of infinitely many. The features are assumed to be normal.

    Raises:
        MetricsError: as :func:`frechet_distance`.
    """
    covariance = _symmetric(np.asarray(sigma, np.float64), "given")
    values = _spectrum(covariance, "given")[0]
    pairs = values[:, None] * values / (values[:, None] + values)
    return float(values.sum() + 0.5 * (pairs.sum() + np.trace(pairs)))


def checked(mu: ArrayLike, sigma: ArrayLike, which: str) -> tuple[Vector, Matrix]:
    """Mean and covariance in float64, the latter made symmetric to the last bit.

    Raises:
        MetricsError: shapes do not match, a value is not finite, or the covariance is not
            symmetric; the message contains ``which``. Eigenvalues are not checked.
    """
    mean, covariance = _real(mu, which), _real(sigma, which)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size) or not mean.size:
        msg = (
            f"the {which} mean has shape {mean.shape} and its covariance {covariance.shape}; "
            "expected [d] and [d, d]"
        )
        raise MetricsError(msg)
    if not np.isfinite(mean).all():
        msg = f"the {which} mean has non-finite values; look at the images it was made from"
        raise MetricsError(msg)
    return mean, _symmetric(covariance, which)


def _real(values: ArrayLike, which: str) -> NDArray[np.float64]:
    found = np.asarray(values)
    if found.dtype.kind not in "fiub":
        msg = f"the {which} mean or covariance is {found.dtype}; expected real numbers"
        raise MetricsError(msg)
    return found.astype(np.float64)


def _tolerance(covariance: Matrix) -> float:
    """The rounding error to expect in a covariance that was stored as float32."""
    scale = float(np.abs(covariance).max(initial=0.0))
    return len(covariance) * float(np.finfo(np.float32).eps) * scale


def _symmetric(covariance: Matrix, which: str) -> Matrix:
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or not covariance.size:
        msg = f"the {which} covariance has shape {covariance.shape}; expected [d, d]"
        raise MetricsError(msg)
    if not np.isfinite(covariance).all():
        msg = f"the {which} covariance has non-finite values; look at the images it was made from"
        raise MetricsError(msg)
    gap = float(np.abs(covariance - covariance.T).max())
    if gap > _tolerance(covariance):
        msg = f"the {which} covariance differs from its transpose by {gap:.3g}; expected symmetry"
        raise MetricsError(msg)
    return 0.5 * (covariance + covariance.T)


def _spectrum(covariance: Matrix, which: str) -> tuple[Vector, Matrix]:
    """Eigenvalues above d·eps·max, and their eigenvectors; smaller ones are rounding errors."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -_tolerance(covariance):
        msg = f"the {which} covariance has eigenvalue {values[0]:.3g}; expected none below zero"
        raise MetricsError(msg)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return values[kept], vectors[:, kept]


def _root(covariance: Matrix, which: str) -> Matrix:
    """A [d, rank] with covariance = A Aᵀ, to rounding.

    Cholesky with pivots of the correlation matrix. It stops at the numerical rank, so singular
    covariances are as exact as others; features of tiny variance count beside large ones; and it
    is a few times faster than an eigendecomposition. The eigendecomposition is the fallback if
    A Aᵀ differs from the covariance, for example because rounding to float32 made eigenvalues
    negative.
    """
    variances = np.diagonal(covariance)
    scales = np.sqrt(np.where(variances > 0, variances, 1.0))
    correlations = covariance / scales / scales[:, None]
    limit = len(covariance) * float(np.finfo(np.float64).eps)
    factor, pivots, rank, _ = dpstrf(correlations, tol=limit, lower=1)
    root = np.empty((len(covariance), rank))
    root[pivots - 1] = np.tril(factor[:, :rank])
    if np.abs(root @ root.T - correlations).max() <= limit:
        return scales[:, None] * root
    values, vectors = _spectrum(covariance, which)
    return vectors * np.sqrt(values)
