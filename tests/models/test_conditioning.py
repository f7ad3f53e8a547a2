import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core.conditioning import ConditionSpec
from sid2core.models.conditioning import Conditioning, fourier_features
from tests import tiny


def test_features_are_sines_and_cosines_of_geometric_frequencies():
    logsnr = np.array([-20.0, -3.7, 0.0, 10.0])
    found = fourier_features(jnp.asarray(logsnr, jnp.float32), 8)
    for row, level in zip(found, logsnr, strict=True):
        angles = [level / 20 * 100 ** (i / 3) for i in range(4)]
        np.testing.assert_allclose(row, [*np.sin(angles), *np.cos(angles)], atol=2e-5)


def test_features_differ_between_noise_levels():
    levels = jnp.linspace(-15.0, 10.0, 200)
    features = np.asarray(fourier_features(levels, 32))
    gaps = np.linalg.norm(features[:, None] - features[None], axis=-1) + 10 * np.eye(200)
    assert gaps.min() > 0.1


def test_every_class_and_the_null_class_have_their_own_vector():
    module = Conditioning(ConditionSpec.of_classes(3), 8, nnx.Rngs(0))
    vectors = np.asarray(module(jnp.full(4, 1.5), tiny.labels(range(4))))
    gaps = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert (gaps[~np.eye(4, dtype=bool)] > 0.1).all()
    table = np.asarray(module.classes.embedding[...])
    assert table.shape == (4, 8)
    np.testing.assert_allclose(vectors - table, np.tile(vectors[0] - table[0], (4, 1)), atol=1e-5)


def test_noise_level_and_class_are_added():
    module = Conditioning(ConditionSpec.of_classes(3), 8, nnx.Rngs(0))
    grid = [
        [np.asarray(module(jnp.array([level]), tiny.labels([label])))[0] for label in (0, 3)]
        for level in (-5.0, 5.0)
    ]
    np.testing.assert_allclose(grid[0][0] - grid[0][1], grid[1][0] - grid[1][1], atol=1e-5)
    assert np.abs(grid[0][0] - grid[1][0]).max() > 0.01


@pytest.mark.parametrize("size", [2, 6, 64])
def test_features_fill_the_embedding(size):
    assert fourier_features(jnp.zeros(3), size).shape == (3, size)
