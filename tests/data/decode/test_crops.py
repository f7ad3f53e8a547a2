import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sid2core.data.decode.crops import CROPS
from sid2core.data.errors import Unusable
from tests.data import pictures

PLENTY = 10**8
BYTES = 1.25
"""Pillow rounds to bytes after each of two passes: 1/2 times the sum of a cubic's absolute weights,
at most 5/4, and 1/2 again; the rest is for weights of 22 bits, and for what is compared with."""
sides = st.integers(1, 90)
two_up = st.integers(2, 90)
"""PyTorch 2.13 is wrong about sides of one pixel: it changes when transposed."""


def cut(name, levels, width, height, max_pixels=PLENTY):
    return np.asarray(CROPS[name].cut(Image.fromarray(levels), width, height, max_pixels))


def by_rows_first(picture, size, resample):
    return picture.resize((size[0], picture.height), resample).resize(size, resample)


def published(picture, width, height, resize=Image.Image.resize):
    """ADM's preprocessing as its authors describe it, step by step; also for two lengths."""
    while picture.size[0] >= 2 * width and picture.size[1] >= 2 * height:
        half = (picture.size[0] // 2, picture.size[1] // 2)
        picture = resize(picture, half, Image.Resampling.BOX)
    scale = max(width / picture.size[0], height / picture.size[1])
    size = tuple(round(side * scale) for side in picture.size)
    levels = np.array(resize(picture, size, Image.Resampling.BICUBIC))
    top, left = (levels.shape[0] - height) // 2, (levels.shape[1] - width) // 2
    return levels[top : top + height, left : left + width]


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(sides, sides), target=st.tuples(*[st.integers(1, 24)] * 2), grey=st.booleans()
)
def test_adm_is_the_published_one_to_the_bit(size, target, grey):
    levels = pictures.noise(*size, 1 if grey else 3)
    expected = published(Image.fromarray(levels), *target, by_rows_first)
    np.testing.assert_array_equal(cut("adm", levels, *target), expected)


@settings(max_examples=150, deadline=None)
@given(
    unit=st.integers(1, 40),
    ratio=st.sampled_from([(2, 3), (4, 5), (1, 2), (1, 1), (7, 8), (3, 2), (5, 4), (8, 9)]),
    target=st.tuples(*[st.sampled_from([4, 8, 16, 32])] * 2),
)
def test_adm_is_the_published_one_where_less_is_resized(unit, ratio, target):
    levels = pictures.noise(unit * ratio[0], unit * ratio[1])
    expected = published(Image.fromarray(levels), *target, by_rows_first)
    np.testing.assert_array_equal(cut("adm", levels, *target), expected)


@pytest.mark.parametrize(
    "size",
    [
        (400, 500),
        (375, 500),
        (500, 375),
        (333, 500),
        (1001, 700),
        (640, 960),
        (900, 600),
        (512, 512),
    ],
)
@pytest.mark.parametrize("target", [32, 64, 128, 256])
def test_adm_is_the_published_one_at_the_sizes_of_photographs(size, target):
    levels = pictures.noise(*size)
    expected = published(Image.fromarray(levels), target, target)
    np.testing.assert_array_equal(cut("adm", levels, target, target), expected)


def resampled(levels, size, kernel):
    """[h, w] in floats by a separable filter, as wide as the scale when it shrinks.

    Rows come first, and what overshoots is clipped after each pass, as an image of bytes must.
    """
    for axis, length in ((1, size[1]), (0, size[0])):
        scale = levels.shape[axis] / length
        stretch = max(scale, 1.0)
        centres = (np.arange(length)[:, None] + 0.5) * scale
        places = np.arange(levels.shape[axis])[None] + 0.5
        distance = (places - centres) / stretch
        weights = kernel(distance)
        weights /= weights.sum(axis=1, keepdims=True)
        levels = np.moveaxis(np.tensordot(weights, levels, (1, axis)), 0, axis).clip(0, 255)
    return levels


def box(x):
    return np.where((-0.5 < x) & (x <= 0.5), 1.0, 0.0)


def bicubic(x):
    """Keys' kernel with a = -1/2."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def adm(levels, size):
    """The crop of ADM without Pillow, in floats, for one channel [h, w]."""
    levels = levels.astype(float)
    while min(levels.shape) >= 2 * size:
        half = (levels.shape[0] // 2, levels.shape[1] // 2)
        levels = resampled(levels, half, box)
    scale = size / min(levels.shape)
    shape = tuple(round(side * scale) for side in levels.shape)
    levels = resampled(levels, shape, bicubic)
    top, left = ((side - size) // 2 for side in shape)
    return levels[top : top + size, left : left + size]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(8, 8, 8), (16, 16, 8), (40, 24, 8), (43, 67, 16), (62, 92, 8), (15, 31, 8), (5, 9, 8)],
)
def test_adm_is_what_its_filters_are(height, width, size):
    levels = pictures.noise(height, width)
    found = cut("adm", levels, size, size)
    for channel in range(3):
        # Pillow rounds to bytes after each pass of each step; a wrong filter is off by tens.
        expected = adm(levels[..., channel], size)
        np.testing.assert_allclose(found[..., channel], expected, rtol=0, atol=2.0)


def interpolated(levels, width, height):
    """PyTorch's antialiased bicubic, in floats."""
    x = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1)[None]
    y = torch.nn.functional.interpolate(x, (height, width), mode="bicubic", antialias=True)
    return y[0].permute(1, 2, 0).numpy()


def placed_by_torchvision(levels, size):
    """``Resize(size)``, whose longer side is cut to an integer, and ``CenterCrop(size)``."""
    height, width = levels.shape[:2]
    short, long = min(height, width), max(height, width)
    new = int(size * long / short)
    wide, high = (size, new) if width <= height else (new, size)
    top, left = round((high - size) / 2.0), round((wide - size) / 2.0)
    return interpolated(levels, wide, high)[top : top + size, left : left + size]


def soft(height, width):
    """Levels that no filter overshoots from, since bytes between two passes would clip that."""
    return pictures.noise(height, width) // 2 + 64


@settings(max_examples=150, deadline=None)
@given(size=st.tuples(two_up, two_up), target=st.integers(2, 40))
def test_centre_is_torchvisions_resize_and_crop(size, target):
    levels = soft(*size)
    found = cut("centre", levels, target, target)
    expected = placed_by_torchvision(levels, target)
    np.testing.assert_allclose(found, expected, rtol=0, atol=BYTES)


@settings(max_examples=150, deadline=None)
@given(size=st.tuples(two_up, two_up), target=st.tuples(*[st.integers(2, 40)] * 2))
def test_squash_is_one_antialiased_resize(size, target):
    levels = soft(*size)
    found = cut("squash", levels, *target)
    np.testing.assert_allclose(found, interpolated(levels, *target), rtol=0, atol=BYTES)


def test_centre_of_two_lengths_covers_the_target():
    levels = np.zeros((60, 100, 3), np.uint8)
    levels[:, 40:60] = 255  # the middle fifth
    found = cut("centre", levels, 20, 60)  # tall: height fits, the middle of the width is kept
    assert (found == 255).all()
    levels = np.zeros((60, 100, 3), np.uint8)
    levels[24:36] = 255
    assert (cut("centre", levels, 50, 6) == 255).mean() > 0.6  # flat: width fits


@pytest.mark.parametrize("name", CROPS)
@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(sides, sides), target=st.tuples(*[st.integers(1, 40)] * 2), grey=st.booleans()
)
def test_every_picture_becomes_what_is_asked(name, size, target, grey):
    levels = np.full((*size, 3)[: 2 if grey else 3], 77, np.uint8)
    found = cut(name, levels, *target)
    assert found.shape == (target[1], target[0], 3)[: found.ndim]
    assert (found == 77).all()  # filters' weights sum to one


@pytest.mark.parametrize("name", CROPS)
def test_the_exact_size_stays_as_it_is(name):
    levels = pictures.noise(8, 6)
    np.testing.assert_array_equal(cut(name, levels, 6, 8), levels)


@pytest.mark.parametrize("name", ["adm", "centre"])
def test_what_is_too_wide_loses_its_edges_alone(name):
    levels = pictures.noise(8, 12)
    np.testing.assert_array_equal(cut(name, levels, 8, 8), levels[:, 2:10])
    levels = pictures.noise(12, 8)
    np.testing.assert_array_equal(cut(name, levels, 8, 8), levels[2:10])


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_adm_refuses_a_strip_that_would_explode(size):
    levels = pictures.noise(*size, 1)
    with pytest.raises(
        Unusable, match=r"too long: it would have \d+x\d+ pixels.* to 256x256, more"
    ):
        cut("adm", levels, 256, 256)
    for name in ("centre", "squash"):
        assert cut(name, levels, 256, 256).shape == (256, 256)
