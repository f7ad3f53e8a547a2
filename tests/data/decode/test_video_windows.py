import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sid2core.data.decode.video.windows import Windows, own_rate


def even(count, rate=10.0):
    return np.arange(count) / rate


def test_a_single_clip_starts_at_the_first_frame():
    assert Windows(3).chosen(even(9)).tolist() == [[0, 1, 2]]
    assert Windows(3, stride=2).chosen(even(9)).tolist() == [[0, 2, 4]]


def test_clips_start_evenly_and_the_last_one_ends_with_the_video():
    found = Windows(4, per_video=3).chosen(even(10))
    assert found.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]


@pytest.mark.parametrize(("count", "clips"), [(2, 0), (3, 1), (4, 2), (5, 3), (6, 4), (60, 4)])
def test_a_short_video_gives_fewer_clips_and_none_twice(count, clips):
    found = Windows(3, per_video=4).chosen(even(count))
    assert len(found) == len({tuple(clip) for clip in found.tolist()}) == clips


def test_frames_are_chosen_by_time_at_the_rate_that_is_asked_for():
    times = even(30, 30.0)
    assert Windows(4, frames_per_second=10).chosen(times).tolist() == [[0, 3, 6, 9]]
    assert Windows(3, frames_per_second=12).chosen(times).tolist() == [[0, 2, 5]]
    assert Windows(5, frames_per_second=60).chosen(times).tolist() == [[0, 0, 1, 1, 2]]
    assert Windows(2, frames_per_second=10).points(times) == 11


def test_a_changing_rate_gives_even_times():
    """Ten frames a second for one second, then two a second."""
    times = np.concatenate([even(10), 1 + even(4, 2.0)])
    clip = Windows(5, frames_per_second=2).chosen(times)[0]
    np.testing.assert_allclose(times[clip], np.arange(5) / 2, atol=0.05)
    assert own_rate(times) == pytest.approx(10)


@given(st.integers(4, 400), st.sampled_from([10, 24000 / 1001, 25, 30000 / 1001]), st.data())
def test_times_rounded_to_milliseconds_are_still_every_frame(count, rate, data):
    """As Matroska stores them; also with a gap, before and after which no frame is skipped."""
    times = np.round(even(count, rate), 3)
    assert Windows(count).chosen(times).tolist() == [list(range(count))]
    gap = data.draw(st.integers(1, count - 1))
    later = np.where(np.arange(count) >= gap, times + 3 / rate, times)
    found = Windows(count + 3).chosen(np.round(later, 3))[0]
    assert sorted(set(found.tolist())) == list(range(count))


def test_no_frames_make_no_clip():
    assert Windows(1).chosen(np.zeros(0)).shape == (0, 1)
    assert Windows(1).chosen(np.zeros(1)).tolist() == [[0]]
    assert Windows(2).points(np.zeros(1)) == 1
