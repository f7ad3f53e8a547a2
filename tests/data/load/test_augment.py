import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core import config
from sid2core.data.load.augment import augmented

SHAPES = [(5, 4, 3), (1, 1, 1), (3, 4, 6, 1)]


def chance(horizontal_flip=False, max_shift=0):
    return config.Loader(horizontal_flip=horizontal_flip, max_shift=max_shift, clip_frames=None)


def noise(count, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def moved(image, down, right):
    """By whole pixels, the edge repeated: each pixel on its own."""
    height, width = image.shape[-3:-1]
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return image[..., rows, :, :][..., columns, :]


def made_by(before, after, flips, most):
    """Which (mirrored, down, right) turn ``before`` into ``after``."""
    shifts = range(-most, most + 1)
    return {
        (flip, down, right)
        for flip in flips
        for down in shifts
        for right in shifts
        if np.array_equal(moved(before[..., ::-1, :] if flip else before, down, right), after)
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_no_augmentation_changes_nothing(shape):
    images = noise(8, shape)
    assert augmented(images, chance(), 0, 0) is images


@pytest.mark.parametrize("shape", [(5, 4, 3), (3, 4, 6, 1)])
@pytest.mark.parametrize(("flip", "most"), [(True, 0), (False, 1), (True, 2)])
def test_each_image_is_mirrored_and_moved_as_one_of_the_allowed_ways(shape, flip, most):
    images = noise(400, shape)
    kept = images.copy()
    found = augmented(images, chance(flip, most), 0, 0)
    assert (found.shape, found.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(images, kept)
    counts = {}
    for before, after in zip(images, found, strict=True):
        (way,) = made_by(before, after, {False, flip}, most)
        counts[way] = counts.get(way, 0) + 1
    ways = (1 + flip) * (2 * most + 1) ** 2
    assert len(counts) == ways
    expected = 400 / ways
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < ways + 4.5 * np.sqrt(2 * ways)


@given(
    st.integers(0, 2**63),
    st.integers(0, 10**12),
    st.integers(1, 20),
    st.integers(0, 20),
    st.sampled_from(SHAPES),
)
def test_an_image_depends_on_seed_and_position_alone(seed, first, count, cut, shape):
    images, settings = noise(count, shape), chance(True, 1)
    whole = augmented(images, settings, seed, first)
    parts = [
        augmented(images[:cut], settings, seed, first),
        augmented(images[cut:], settings, seed, first + min(cut, count)),
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_seeds_and_positions_have_chances_of_their_own():
    images = np.broadcast_to(noise(1, (1, 2, 1)), (200, 1, 2, 1))
    mirrored = np.array(
        [
            (augmented(images, chance(True), seed, first) != images).any(axis=(1, 2, 3))
            for seed in (0, 1)
            for first in (0, 200, 10**15)
        ]
    )
    # Six rows of fair coins: each half heads, no two alike, within four deviations.
    assert np.abs(mirrored.mean(axis=1) - 0.5).max() < 4 * 0.5 / np.sqrt(200)
    correlation = np.corrcoef(mirrored)[np.triu_indices(6, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(200)


def test_known_chances_never_change():
    # Others would change every result that used them, and every unfinished run.
    image = np.arange(3, dtype=np.uint8).reshape(1, 3, 1)
    found = augmented(np.stack([image] * 6), chance(True, 1), 0, 2**40)
    assert found[:, 0, :, 0].tolist() == [
        [0, 0, 1],
        [0, 1, 2],
        [2, 1, 0],
        [2, 1, 0],
        [1, 0, 0],
        [0, 0, 1],
    ]
