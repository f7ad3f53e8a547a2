"""The three resizes against the implementations that they are named after."""

import functools

import jax
import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks.resize import MODES, matrix, resize
from tests.metrics import fid_peers
from tests.refusals import RAW_IMAGES, refused

LEVEL = 255.0


def raw(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def peer(images, size, mode):
    """The resize by the package that the mode is named after."""
    if mode == "clean":
        assert size == 299
        return np.stack([build_resizer("clean")(image) for image in images])
    fid_peers.admit_torchvision()
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    function = {
        "tf1": interpolate_bilinear_2d_like_tensorflow1x,
        "torch": functools.partial(interpolate, mode="bilinear"),
    }[mode]
    return function(x, size=(size, size), align_corners=False).permute(0, 2, 3, 1).numpy()


def gap(found, expected):
    """The largest difference, of the range of pixels."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    return np.abs(np.asarray(found) - expected).max() / LEVEL


@pytest.mark.parametrize("shape", [(32, 32), (299, 299), (1, 1), (256, 320), (7, 640)])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_its_peers_resize(mode, shape):
    images = raw(1, *shape, 3)
    error = gap(resize(images, 299, mode), peer(images, 299, mode))
    assert error < 3e-7


@pytest.mark.parametrize("mode", ["tf1", "torch"])
@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 40))
def test_linear_modes_at_any_size(mode, height, width, size):
    images = raw(2, height, width, 3, seed=size)
    error = gap(resize(images, size, mode), peer(images, size, mode))
    assert error < 3e-7


@settings(deadline=None)
@given(size=st.integers(1, 2000), out=st.integers(1, 2000), mode=st.sampled_from(["tf1", "torch"]))
def test_rows_are_means(size, out, mode):
    """Each pixel of the result is a mean of one or two pixels, whose weights sum to 1."""
    weights = matrix(mode, size, out)
    assert weights.shape == (out, size)
    assert weights.min() >= 0
    assert (np.count_nonzero(weights, axis=1) <= 2).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_size_that_is_there_is_kept(mode):
    images = raw(1, 24, 24, 3)
    np.testing.assert_array_equal(resize(images, 24, mode), images.astype(np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_grey_is_repeated_and_images_do_not_touch(mode):
    grey = raw(3, 9, 14, 1)
    colour = np.repeat(grey, 3, axis=-1)
    np.testing.assert_array_equal(resize(grey, 20, mode), resize(colour, 20, mode))
    np.testing.assert_array_equal(resize(grey[1:2], 20, mode)[0], resize(grey, 20, mode)[1])
    assert resize(grey[:0], 20, mode).shape == (0, 20, 20, 3)


def test_the_modes_differ():
    """By as much as a wrong one would cost: far above rounding."""
    images = raw(1, 64, 64, 3)
    made = [np.asarray(resize(images, 299, mode)) for mode in MODES]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert gap(made[one], made[other]) > 0.05


def test_clean_stays_in_range():
    """The bicubic filter overshoots at edges."""
    edge = np.zeros((1, 32, 32, 3), np.uint8)
    edge[:, :, 16:] = 255
    made = resize(edge, 299, "clean")
    assert made.min() == 0
    assert made.max() == 255


def test_sharded_images_stay_sharded():
    mesh = jax.make_mesh((8,), ("data",))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    images = raw(8, 16, 16, 3)
    made = resize(jax.device_put(images, sharding), 24, "tf1")
    assert made.sharding.is_equivalent_to(sharding, 4)
    np.testing.assert_allclose(made, resize(images, 24, "tf1"), atol=1e-4)


@pytest.mark.parametrize(
    "images",
    [
        raw(2, 8, 8, 3).astype(np.float32),
        np.full((2, 8, 8, 3), np.nan, np.float32),
        raw(8, 8, 3),
        raw(2, 8, 8, 4),
        raw(2, 3, 8, 8),
        raw(2, 0, 8, 3),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_other_images_are_refused(mode, images):
    with refused(MetricsError, RAW_IMAGES):
        resize(images, 299, mode)


def test_an_unknown_mode_is_refused():
    with pytest.raises(
        MetricsError, match="unknown resize 'tf2'; expected one of tf1, torch, clean"
    ):
        resize(raw(1, 8, 8, 3), 299, "tf2")
