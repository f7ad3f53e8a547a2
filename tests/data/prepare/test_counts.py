import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sid2core.data.prepare.counts import BRIGHTNESS_BINS, Reject, Tally, copies
from tests.data import made

shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]))
batches = shapes.flatmap(
    lambda shape: st.lists(hnp.arrays(np.uint8, shape), min_size=1, max_size=6)
)


def tally_of(images):
    tally = Tally()
    for row, image in enumerate(images):
        tally.add(made.record(str(row), image, row % 3))
    return tally


@given(batches)
def test_moments_are_those_of_all_values(images):
    found = tally_of(images).moments()
    values = np.stack(images).astype(np.float64).reshape(-1, images[0].shape[-1])
    np.testing.assert_allclose(found["mean"], values.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found["std"], values.std(axis=0), atol=1e-3)


@given(batches, st.integers(0, 6))
def test_parts_add_up_to_the_whole_through_json(images, cut):
    whole, one, other = tally_of(images), Tally(), Tally()
    for row, image in enumerate(images):
        (one if row < cut else other).add(made.record(str(row), image, row % 3))
    one.rejects.append(Reject("train", "x", "why"))
    merged = Tally()
    for part in (one, other):
        merged.merge(Tally.from_json(json.loads(json.dumps(part.to_json()))))
    assert merged.rejects == [Reject("train", "x", "why")]
    merged.rejects.clear()
    assert merged.to_json() == whole.to_json()
    assert merged.records == len(images)


@pytest.mark.parametrize("level", [0, 7, 8, 100, 255])
def test_brightness_and_size_fall_into_their_bins(level):
    tally = tally_of([np.full((2, 3, 3), level, np.uint8)])
    assert tally.brightness == {level // (256 // BRIGHTNESS_BINS): 1}
    assert tally.short_sides == {2: 1}


def test_images_with_the_same_pixels_are_counted():
    one, two, three = (np.full((2, 3, 3), level, np.uint8) for level in (1, 2, 3))
    train = tally_of([one, two, one, one])
    assert copies(train, tally_of([three, two, one])) == {
        "repeated_train_images": 2,
        "eval_images_in_train": 2,
    }
    assert copies(tally_of([one, two]), tally_of([three, three])) == {}


def test_pixels_are_compared_in_their_order_whatever_their_layout_in_memory():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    flipped = image[::-1]
    found = copies(tally_of([flipped.copy()]), tally_of([flipped]))
    assert found == {"eval_images_in_train": 1}
    assert copies(tally_of([image]), tally_of([flipped])) == {}


def test_frames_count_as_pixels():
    clip = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    tally = tally_of([clip])
    assert tally.levels.sum(axis=1).tolist() == [24, 24, 24]
    np.testing.assert_allclose(tally.moments()["mean"], clip.reshape(-1, 3).mean(axis=0))


def test_names_that_are_no_text_are_escaped():
    assert Reject.of("train", "a/\udcff.png", "frame \udcfe") == Reject(
        "train", r"a/\udcff.png", r"frame \udcfe"
    )
