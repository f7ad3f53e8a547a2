"""The inception score: how far each image's classes are from the classes of all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from sid2core.metrics import features
from sid2core.metrics.errors import MetricsError


class InceptionScore(NamedTuple):
    """Mean and spread over splits."""

    mean: float
    std: float
    """Of one split's score (with 1 / splits), as published."""


def inception_score(
    logits: ArrayLike, *, splits: int = 10, seed: int | None = None
) -> InceptionScore:
    """The mean over splits of exp(mean over images of KL(p(y|x) ‖ p(y))), arXiv 1606.03498.

    p(y|x) is the softmax of an image's logits, p(y) its mean over the split. Published scores take
    the 1008 logits of the FID network without bias (``logits_unbiased``).

    Splits are consecutive and as equal as can be. Without ``seed`` images stay in their order, as
    in ADM's evaluator, which cuts splits of 5000: for 50,000 images the same. With ``seed`` they
    are shuffled first, as torch-fidelity does (its ``rng_seed`` is 2020). Sorted by class, images
    must be shuffled: a split would not have all classes, and its score would be low.

    Args:
        logits: [n, classes].
        splits: how many; each must have two images.
        seed: of the shuffling; None for none.

    Raises:
        MetricsError: fewer than two images a split, no split, or a value that is not finite.
    """
    if splits < 1:
        msg = f"{splits} splits; expected 1 or more"
        raise MetricsError(msg)
    values = features.checked(logits, 2 * splits, "logits")
    count = len(values)
    order = np.arange(count) if seed is None else np.random.RandomState(seed).permutation(count)
    bounds = np.arange(1, splits) * count // splits
    scores = [_score(values[part].astype(np.float64)) for part in np.split(order, bounds)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: NDArray[np.float64]) -> float:
    log_p = log_softmax(logits, axis=1)
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    divergences = (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)
    return float(np.exp(divergences.mean()))
