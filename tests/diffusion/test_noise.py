"""Standard normal noise: the values of jax.random.normal in any shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.diffusion.noise import standard_normal


@pytest.mark.parametrize("shape", [(), (5,), (4, 3, 2)])
def test_equals_jax_random_normal(shape):
    key = jax.random.key(3)
    found = standard_normal(key, shape)
    assert (found.shape, found.dtype) == (shape, jnp.float32)
    np.testing.assert_array_equal(found, jax.random.normal(key, shape))
