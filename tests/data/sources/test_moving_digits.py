import pickle
from collections import Counter

import numpy as np
import pytest

from sid2core.conditioning import UNLABELLED
from sid2core.config import ParamsError
from sid2core.data.prepare import splits
from sid2core.data.sources import opening, protocol
from sid2core.data.sources.digits import pixels
from sid2core.data.sources.moving_digits import MovingDigits, _pool
from tests import tiny
from tests.refusals import refused


def opened(**data):
    values = tiny.source("moving_digits", **({"count": 20, "frames": 6, "image_size": 16} | data))
    return opening.opened(tiny.params(data=values).data)


def clip(source, index):
    return protocol.loaded(source, source.index()[index]).image


def corners(frames, side):
    """Where the digit ``side`` pixels wide is in each frame, by its box of bright pixels."""
    boxes = [np.argwhere(frame[..., 0]) for frame in frames]
    return np.array([(box.min(axis=0) + box.max(axis=0)) / 2 for box in boxes])


def test_the_parameters_say_how_many_how_long_and_how_large():
    source, held_out = opened(digits=2, classes="motion", unlabelled=True, train_fraction=0.5)
    assert (source, held_out) == (MovingDigits(20, 6, 16, 16, 2, "motion", 0.5, True), None)
    assert source.class_names == UNLABELLED
    assert opened(image_size=[12, 20])[0].shape == (6, 12, 20, 1)
    with refused(ParamsError, "data", "moving_digits needs image_size of at least 12, found 11"):
        opened(image_size=[40, 11])


@pytest.mark.parametrize(
    ("digits", "classes", "names"),
    [
        (1, "digit", ["0", "1", "9"]),
        (2, "digit", ["0 and 0", "0 and 1", "9 and 9"]),
        (1, "motion", ["right down", "left down", "right up"]),
        (
            2,
            "motion",
            ["right down and right down", "right down and left down", "right up and right up"],
        ),
    ],
)
def test_classes_take_turns_in_both_splits(digits, classes, names):
    source = MovingDigits(1100, 2, 16, 16, digits, classes, 0.8)
    found = source.class_names
    assert [found[0], found[1], found[-1]] == names
    parts = splits.split(source.index(), found, 0.3, 0, fixed=True)
    for part, share in (("train", 0.8), ("eval", 0.2)):
        counts = Counter(entry.label for entry in parts[part])
        each = 1100 / len(found) * share
        assert len(counts) == len(found)
        assert all(abs(count - each) <= 1.5 for count in counts.values())


def test_a_clip_is_a_function_of_its_index():
    few, many = MovingDigits(9, 5, 16, 16), MovingDigits(90, 9, 16, 16)
    other = pickle.loads(pickle.dumps(many))
    assert few.index() == many.index()[:9]
    for index in (0, 8):
        np.testing.assert_array_equal(clip(few, index), clip(many, index)[:5])
        np.testing.assert_array_equal(clip(other, index), clip(many, index))
    assert not np.array_equal(clip(many, 0), clip(many, 10))


def test_frames_show_the_digit_of_the_class_whole():
    source = MovingDigits(40, 30, 16, 20)
    for entry in source.index()[:12]:
        pool = {pixels(row).tobytes() for row in _pool(entry.split == "eval", entry.label)}
        for frame in source.read(entry).image:
            windows = np.lib.stride_tricks.sliding_window_view(frame[..., 0], (8, 8))
            shown = [one for one in windows.reshape(-1, 8, 8) if one.sum() == frame.sum()]
            assert pool & {one.tobytes() for one in shown}


def test_a_digit_moves_evenly_and_bounces():
    """At 256 pixels rounding is small: steps are a tenth of the way between two edges."""
    source = MovingDigits(16, 60, 256, 256, classes="motion")
    signs, seen = {"right": 1, "left": -1, "down": 1, "up": -1}, set()
    for entry in source.index():
        path = corners(source.read(entry).image, 128)
        steps = np.diff(path, axis=0)
        speed = np.hypot(*np.median(abs(steps), axis=0))
        assert speed == pytest.approx(12.8, abs=1.5)
        assert np.ptp(path, axis=0).max() > 100  # turned back at the edges, never left
        horizontal, vertical = source.class_names[entry.label].split()
        for axis, word in enumerate((vertical, horizontal)):
            line = path[:, axis]
            if line.min() + 13 < line[0] < line.max() - 13:  # no edge within the first step
                seen.add(word)
                assert steps[0, axis] * signs[word] >= 0
    assert seen == set(signs)


def test_eval_clips_have_digits_of_their_own():
    train, held_out = (
        {row for digit in range(10) for row in _pool(part, digit)} for part in (False, True)
    )
    assert not train & held_out
    assert len(train | held_out) == 1797
    assert set(_pool(True, None)) == held_out


def test_two_digits_overlap_by_the_brighter_pixel():
    one, two = MovingDigits(60, 4, 24, 24), MovingDigits(60, 4, 24, 24, digits=2)
    assert clip(two, 0).astype(int).sum() > clip(one, 0).astype(int).sum()
    assert clip(two, 0).max() <= 255
    assert two.stamp() == one.stamp() == "moving_digits/60"
