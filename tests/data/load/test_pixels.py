import jax.numpy as jnp
import numpy as np

from sid2core.data.load import pixels

ALL = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)


def test_the_range_is_exact_at_its_ends():
    x = np.asarray(pixels.to_unit(ALL))
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (-1.0, 1.0)
    expected = ALL.astype(np.float64) / 127.5 - 1.0
    np.testing.assert_allclose(x, expected, rtol=0, atol=2 * np.finfo(np.float32).eps)


def test_every_byte_survives_the_round_trip():
    back = pixels.to_uint8(pixels.to_unit(ALL))
    assert back.dtype == jnp.uint8
    np.testing.assert_array_equal(back, ALL)


def test_values_beyond_the_range_are_clipped_and_others_rounded():
    x = jnp.asarray([-3.0, -1.0, -0.999, 0.0, 0.999, 1.0, 7.0])
    assert pixels.to_uint8(x).tolist() == [0, 0, 0, 128, 255, 255, 255]
