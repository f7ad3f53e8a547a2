"""The Fréchet distance of two covariances, beside the roots that other implementations take.

    python -m benchmarks.frechet [--sizes 2048] [--only ours]

The pair has eigenvalues that fall as those of Inception's features do, over seven decades, and a
distance that is known: S2 = T S1 T. Beside the time stands each one's error, over the traces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Contender, Work
from sid2core.metrics import frechet

SIZES = [256, 2048]
REFERENCE = "scipy sqrtm"
Matrix = NDArray[np.float64]


def pair(size: int) -> tuple[Matrix, Matrix, float]:
    """Two covariances that do not commute, and their distance."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    sigma1 = basis * np.geomspace(1e-7, 1, size) @ basis.T
    factor = rng.normal(size=(size, 4 * size))
    transport = factor @ factor.T / (4 * size)
    sigma2, rest = transport @ sigma1 @ transport, np.eye(size) - transport
    expected = float(np.trace(rest @ sigma1 @ rest))
    return (sigma1 + sigma1.T) / 2, (sigma2 + sigma2.T) / 2, expected


def ours(sigma1: Matrix, sigma2: Matrix) -> float:
    """Roots by Cholesky with pivots, and the singular values of their product."""
    zero = np.zeros(len(sigma1))
    return frechet.frechet_distance(zero, sigma1, zero, sigma2)


def sqrtm(sigma1: Matrix, sigma2: Matrix) -> float:
    """As in TTUR, ADM, pytorch-fid."""
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    return float(np.trace(sigma1 + sigma2) - 2 * np.trace(root).real)


def eigvals(sigma1: Matrix, sigma2: Matrix) -> float:
    """As in torchmetrics and torch-fidelity."""
    values = np.linalg.eigvals(sigma1 @ sigma2)
    return float(np.trace(sigma1 + sigma2) - 2 * np.sqrt(values.astype(complex)).real.sum())


METHODS = {"ours": ours, REFERENCE: sqrtm, "eigvals of the product": eigvals}


def work(name: str, size: int) -> Work:
    """One distance."""
    sigma1, sigma2, _ = pair(size)
    method = METHODS[name]

    def run() -> None:
        method(sigma1, sigma2)

    return run


def describe() -> dict[str, Any]:
    """What this runs on."""
    return {"platform": "cpu", "numpy": np.__version__, "scipy": scipy.__version__}


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    names = common.chosen(list(METHODS), options.only)
    results, metadata = {}, {}
    for size in options.sizes:
        field = [
            Contender(name, "benchmarks.frechet:work", {"name": name, "size": size})
            for name in names
        ]
        seconds, found = common.race(field, options.rounds, options.threads)
        rows = common.summary(seconds, REFERENCE)
        common.show(f"{size} features, ms a distance", rows, REFERENCE)
        sigma1, sigma2, expected = pair(size)
        traces = float(np.trace(sigma1 + sigma2))
        for name, row in rows.items():
            row["error"] = abs(METHODS[name](sigma1, sigma2) - expected) / traces
            print(f"  {name:34}{row['error']:>12.1e} of the traces wrong")
        results[f"{size} features"] = {"contenders": rows}
        metadata |= found
    common.write("frechet", metadata | {"threads": options.threads}, results)


if __name__ == "__main__":
    main()
