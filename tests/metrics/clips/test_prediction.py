"""PSNR and SSIM against their formulas."""

import numpy as np
import pytest
from scipy import ndimage

from sid2core.metrics.clips import prediction

RANDOM = np.random.default_rng(0)
REAL = RANDOM.integers(0, 256, (3, 5, 12, 14, 2), dtype=np.uint8)
SAMPLES = np.clip(REAL[:, None] + RANDOM.normal(0, 20, (3, 4, *REAL.shape[1:])), 0, 255)
SAMPLES = np.rint(SAMPLES).astype(np.uint8)
GIVEN = 2


def psnr(real, other):
    return 10 * np.log10(255**2 / np.square(real - other.astype(float)).mean(axis=(-3, -2, -1)))


def ssim(real, other):
    """Wang et al. (2004), equation 13, in one channel, away from the edges."""

    def mean(x):
        return ndimage.gaussian_filter(x, 1.5, truncate=3.5)

    x, y = real.astype(float), other.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return found[5:-5, 5:-5].mean()


def values(real=REAL, samples=SAMPLES, given=GIVEN):
    found = prediction.scores(real, samples, given)
    assert {one.samples for one in found} == {len(real)}
    assert {one.extractor for one in found} == {"pixels"}
    return {one.metric: one.value for one in found}


def test_scores_are_those_of_their_formulas():
    found = values()
    assert set(found) == {"psnr_best_of_4", "psnr_mean", "ssim_best_of_4", "ssim_mean"}
    each = psnr(REAL[:, None, GIVEN:], SAMPLES[:, :, GIVEN:]).mean(axis=2)
    assert found["psnr_best_of_4"] == pytest.approx(each.max(axis=1).mean())
    mean = SAMPLES.mean(axis=1)
    assert found["psnr_mean"] == pytest.approx(psnr(REAL[:, GIVEN:], mean[:, GIVEN:]).mean())
    frames = [
        ssim(real[..., channel], other[..., channel])
        for clip, predicted in zip(REAL[:, GIVEN:], mean[:, GIVEN:], strict=True)
        for real, other in zip(clip, predicted, strict=True)
        for channel in range(2)
    ]
    assert found["ssim_mean"] == pytest.approx(np.mean(frames), rel=1e-6)


def test_given_frames_are_not_scored():
    changed = SAMPLES.copy()
    changed[:, :, :GIVEN] = 0
    assert values(samples=changed) == values()


def test_equal_frames_have_the_largest_scores():
    found = values(samples=REAL[:, None])
    assert found["psnr_mean"] == pytest.approx(10 * np.log10(255**2 * 12))
    assert found["ssim_mean"] == pytest.approx(1.0)


def test_frames_too_small_for_ssim_have_psnr_alone():
    small = REAL[:, :, :10], SAMPLES[:, :, :, :10]
    assert set(values(*small)) == {"psnr_best_of_4", "psnr_mean"}
