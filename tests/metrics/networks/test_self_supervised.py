"""Degradations and the loss against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from sid2core.metrics.networks import self_supervised
from sid2core.metrics.networks.self_supervised import (
    BLUR,
    FADED,
    LEVELS,
    NOISE,
    STRONGEST_NOISE,
    SWAPPED,
)

IMAGES = np.random.default_rng(0).uniform(-1, 1, (6, 16, 12, 3)).astype(np.float32)


def degraded(images, way, level):
    levels = np.zeros((len(images), LEVELS), np.float32)
    levels[:, way] = level
    made = self_supervised.degraded(jnp.asarray(images), jnp.asarray(levels), jax.random.key(0))
    return np.asarray(made)


@pytest.mark.parametrize("deviation", [0.5, 1.5])
def test_a_blur_is_a_gaussian_of_its_deviation(deviation):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 25, 23, 1)).astype(np.float32)
    actual = self_supervised.blurred(jnp.asarray(images), jnp.full((2, 1), deviation))
    expected = ndimage.gaussian_filter(images, (0, deviation, deviation, 0), truncate=8)
    inside = np.s_[:, 10:15, 10:13]  # further from the edges than six deviations
    np.testing.assert_allclose(np.asarray(actual)[inside], expected[inside], atol=1e-5)


def test_level_0_is_no_change_and_each_image_has_its_own_levels():
    levels = jnp.concatenate([jnp.zeros((2, LEVELS)), jnp.eye(LEVELS)])
    actual = self_supervised.degraded(jnp.asarray(IMAGES), levels, jax.random.key(0))
    changed = [not np.allclose(a, b, atol=1e-6) for a, b in zip(actual, IMAGES, strict=True)]
    assert changed == [False, False, True, True, True, True]
    assert np.abs(actual).max() <= 1.0


def test_fading_scales_the_differences_from_the_mean_colour():
    mean = IMAGES.mean(axis=(1, 2), keepdims=True)
    expected = mean + 0.25 * (IMAGES - mean)
    np.testing.assert_allclose(degraded(IMAGES, FADED, 0.75), expected, atol=1e-5)


def test_swapped_halves_are_those_of_numpy():
    expected = np.roll(IMAGES, (8, 6), (1, 2))
    np.testing.assert_allclose(degraded(IMAGES, SWAPPED, 1.0), expected, atol=1e-6)


def test_noise_has_its_deviation():
    found = degraded(np.zeros((100, 8, 8, 1), np.float32), NOISE, 0.5)
    assert found.std() == pytest.approx(0.5 * STRONGEST_NOISE, rel=0.03)
    assert found.mean() == pytest.approx(0.0, abs=0.02)


def test_at_most_one_level_is_not_0_and_all_ways_are_as_frequent():
    levels = np.asarray(self_supervised.random_levels(jax.random.key(0), 5000))
    shares = (levels > 0).mean(axis=0)
    np.testing.assert_allclose(shares, 1 / (LEVELS + 1), atol=0.03)
    assert (levels > 0).sum(axis=1).max() == 1
    assert set(levels[:, SWAPPED]) == {0.0, 1.0}
    chosen = levels[:, BLUR][levels[:, BLUR] > 0]
    assert (chosen.mean(), chosen.var()) == pytest.approx((1 / 2, 1 / 12), rel=0.1)


def test_the_loss_is_that_of_its_formula():
    random = np.random.default_rng(0)
    levels, estimated = random.uniform(size=(2, 6, LEVELS))
    rows = random.normal(size=(6, 4))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = np.exp(unit @ unit.T / self_supervised.TEMPERATURE)
    np.fill_diagonal(similar, 0.0)
    pairs = similar[np.arange(6), (np.arange(6) + 3) % 6]
    error = np.mean(np.sum((levels - estimated) ** 2, axis=1))
    expected = self_supervised.WEIGHT * error + np.mean(-np.log(pairs / similar.sum(axis=1)))
    arrays = (jnp.asarray(one, jnp.float32) for one in (levels, estimated, rows))
    value, share = self_supervised.loss(*arrays)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(share) == pytest.approx(np.mean(pairs == similar.max(axis=1)))
