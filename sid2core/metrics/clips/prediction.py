"""PSNR and SSIM of predicted frames, by scikit-image.

Several continuations of the same given frames are drawn. Two numbers are usual: those of the best
of n samples, chosen for each clip and each score by its mean over frames, and those of the mean of
the samples, which a blurred prediction wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from sid2core.metrics.scores import Score

NAME = "pixels"
"""Stands for an extractor in tables of scores."""
PEAK = 255.0
FINEST = 1 / 12
"""Mean squared error of rounding to whole numbers: no PSNR is above 58.9 dB."""
_SIGMA, _WIDTH = 1.5, 11
"""Of SSIM's Gaussian window, in pixels (Wang et al. 2004)."""

Frame = NDArray[np.float64]
"""[h, w, c], 0 to 255."""


def psnr(real: Frame, predicted: Frame) -> float:
    """10 log10(255² / MSE) in dB, at most 58.9: of an equal frame."""
    from skimage.metrics import mean_squared_error

    error = max(float(mean_squared_error(real, predicted)), FINEST)
    return float(10 * np.log10(PEAK**2 / error))


def ssim(real: Frame, predicted: Frame) -> float:
    """Structural similarity with the Gaussian window of Wang et al. (2004), channels averaged."""
    from skimage.metrics import structural_similarity

    found = structural_similarity(
        real,
        predicted,
        data_range=PEAK,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=_SIGMA,
        use_sample_covariance=False,
    )
    return float(found)


def scores(real: NDArray[np.uint8], samples: NDArray[np.uint8], given: int) -> list[Score]:
    """``psnr_best_of_<s>``, ``ssim_best_of_<s>``, ``psnr_mean`` and ``ssim_mean``.

    Of predicted frames alone. SSIM needs frames of 11 pixels or more, and is left out of smaller.

    Args:
        real: clips [n, f, h, w, c].
        samples: of each clip, [n, s, f, h, w, c].
        given: how many first frames are not predicted.
    """
    count = len(real)
    mean = samples.mean(axis=1, dtype=np.float64)[:, None]
    found = []
    for name, metric in _metrics(min(real.shape[2:4])):
        best = _of_clips(metric, real, samples, given).max(axis=1)
        of_mean = _of_clips(metric, real, mean, given)
        found.append(Score(NAME, f"{name}_best_of_{samples.shape[1]}", count, float(best.mean())))
        found.append(Score(NAME, f"{name}_mean", count, float(of_mean.mean())))
    return found


def _metrics(side: int) -> Iterator[tuple[str, Callable[[Frame, Frame], float]]]:
    yield "psnr", psnr
    if side >= _WIDTH:
        yield "ssim", ssim


def _of_clips(
    metric: Callable[[Frame, Frame], float],
    real: NDArray[np.uint8],
    samples: NDArray[np.generic],
    given: int,
) -> NDArray[np.float64]:
    """The mean over predicted frames of each sample, [n, s]."""
    found = np.empty(samples.shape[:2])
    for index, clip in enumerate(real[:, given:].astype(np.float64)):
        for number, sample in enumerate(samples[index, :, given:].astype(np.float64)):
            found[index, number] = np.mean(list(map(metric, clip, sample)))
    return found
