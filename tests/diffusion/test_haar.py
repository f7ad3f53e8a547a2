"""The Haar transform: orthonormal, invertible, equal to PyWavelets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.diffusion.haar import from_subbands, subbands


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_names_order_and_shapes():
    bands = subbands(draw(2, 32, 16, 3), 2)
    assert list(bands) == ["LLLL", "LLLH", "LLHL", "LLHH", "LH", "HL", "HH"]
    assert {bands[name].shape for name in list(bands)[:4]} == {(2, 8, 4, 3)}
    assert {bands[name].shape for name in list(bands)[4:]} == {(2, 16, 8, 3)}
    assert list(subbands(draw(4, 4, 1), 1)) == ["LL", "LH", "HL", "HH"]


def test_the_first_letter_is_the_rows():
    """Stripes that alternate along a row are high by rows and low by columns."""
    along_width = jnp.broadcast_to(jnp.array([1.0, -1.0])[None, :, None], (2, 2, 1))
    bands = {name: float(band[0, 0, 0]) for name, band in subbands(along_width, 1).items()}
    assert bands == pytest.approx({"LL": 0.0, "LH": 0.0, "HL": 2.0, "HH": 0.0})


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_agrees_with_pywavelets(levels):
    x = draw(2, 32, 48, 3, seed=levels)
    approximation, *details = pywt.wavedec2(
        np.asarray(x, np.float64), "haar", level=levels, axes=(1, 2)
    )
    bands = subbands(x, levels)
    np.testing.assert_allclose(bands["LL" * levels], approximation, atol=1e-6 * 2**levels)
    for level, (horizontal, vertical, diagonal) in zip(
        reversed(range(levels)), details, strict=True
    ):
        for name, expected in (("LH", horizontal), ("HL", vertical), ("HH", diagonal)):
            np.testing.assert_allclose(bands["LL" * level + name], expected, rtol=1e-6, atol=1e-6)


transform = jax.jit(subbands, static_argnums=1)
restore = jax.jit(from_subbands)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    case=st.sampled_from([((3, 5, 1), 0), ((2, 4, 6, 3), 1), ((2, 3, 8, 12, 2), 2)]),
)
def test_parseval_and_inverse(seed, scale, case):
    shape, levels = case
    x = scale * draw(*shape, seed=seed)
    bands = transform(x, levels)
    assert len(bands) == 3 * levels + 1
    energy = sum(float(jnp.sum(jnp.square(band))) for band in bands.values())
    np.testing.assert_allclose(energy, float(jnp.sum(jnp.square(x))), rtol=1e-5)
    np.testing.assert_allclose(restore(bands), x, atol=1e-5 * scale)


def test_refuses_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match="12 x 16 image cannot be split 3 times.*divisible by 8"):
        subbands(draw(1, 12, 16, 3), 3)
    with pytest.raises(ValueError, match="levels is -1"):
        subbands(draw(1, 4, 4, 3), -1)


def test_refuses_incomplete_bands():
    bands = subbands(draw(8, 8, 1), 2)
    del bands["LLHH"]
    with pytest.raises(ValueError, match="expected"):
        from_subbands(bands)
