"""Clips that a user asks for: given frames from arrays and files, and windows of longer clips."""

import numpy as np
import pytest
from PIL import Image

import sid2core
from sid2core.conditioning import Condition, ConditionError, ConditionSpec, Given, GivenKind
from sid2core.data import encode
from sid2core.data.load import pace
from sid2core.inference import checks, clips
from sid2core.inference.public import SampleError
from tests.inference import continuing
from tests.models import configs
from tests.refusals import refused

KIND = GivenKind((2, 4, 4, 3))
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)


def test_given_frames_are_of_all_clips_or_of_each():
    all_alike = clips.condition_of(FRAMES[:2], KIND, 3)
    assert all_alike.frames.shape == (3, 2, 4, 4, 3)
    assert (all_alike.frames == FRAMES[:2]).all()
    assert all_alike.there.all()
    own = np.stack([FRAMES[:2], FRAMES[1:]])
    assert (clips.condition_of(own, KIND, 2).frames == own).all()
    for wrong in (FRAMES, own, FRAMES[:2].astype(np.float32)):
        with refused(ConditionError, "given", "expected uint8 [2, 4, 4, 3]"):
            clips.condition_of(wrong, KIND, 3)


def _folder(place):
    place.mkdir()
    for name, frame in zip(("9", "10", "11"), FRAMES, strict=True):
        Image.fromarray(frame).save(place / f"{name}.png")
    for name in (".DS_Store", "._9.png", "Thumbs.db", "0.txt"):
        (place / name).write_bytes(b"no picture")


def _animation(place):
    first, *others = map(Image.fromarray, FRAMES)
    first.save(place, format="WEBP", save_all=True, append_images=others, lossless=True)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("clip", _folder),
        ("clip.webp", _animation),
        ("clip.npy", lambda path: np.save(path, FRAMES)),
    ],
)
def test_given_frames_are_the_first_of_a_clip_on_disk(tmp_path, name, write):
    write(tmp_path / name)
    given = clips.condition_of(tmp_path / name, KIND, 2)
    assert (given.frames == FRAMES[:2]).all()
    with refused(ConditionError, f"given: {tmp_path / name}", "3 frame(s)"):
        clips.read(tmp_path / name, GivenKind((5, 4, 4, 3)))


@pytest.mark.parametrize(("rate", "expected"), [(None, [0, 2]), (5.0, [0, 4])])
def test_a_video_is_read_at_the_pace_of_the_training_data(tmp_path, rate, expected):
    """Of ten frames a second every second one, or every second one of five a second."""
    levels = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8)
    encode.webp(tmp_path / "clip.webp", 10 * levels, 10)
    settings = {"videos": {"frame_stride": 2, "frames_per_second": rate}}
    given = clips.read(tmp_path / "clip.webp", KIND, settings)
    assert (given[:, 0, 0, 0] // 10).tolist() == expected


def test_a_model_records_the_pace_of_video_files_alone():
    decoding = {"crop": "adm", "frame_stride": 2, "frames_per_second": None}
    found = pace.of_model({"decoding": decoding})
    assert found == {"videos": {"frame_stride": 2, "frames_per_second": None}}
    assert pace.of_model({"decoding": {"crop": "adm"}}) == pace.of_model({}) == {}


def test_what_is_no_clip_is_refused(tmp_path):
    (tmp_path / "clip.txt").write_text("no clip")
    for name in ("clip.txt", "nowhere"):
        with refused(ConditionError, f"given: {tmp_path / name}", "cannot be read"):
            clips.read(tmp_path / name, KIND)


@pytest.mark.parametrize("frames", [3, 5, 6, 11])
def test_the_last_frames_of_a_window_are_given_to_the_next(frames):
    """Each window of two given and three drawn frames counts on from its last given frame."""
    seen = []

    def draw(window, condition):
        given = condition.given.frames
        seen.append((window, given[0, :, 0, 0, 0].tolist()))
        drawn = given[:, -1:] + np.arange(1, 4, dtype=np.uint8)[None, :, None, None, None]
        return np.concatenate([given, drawn], axis=1)

    start = np.zeros((1, 2, 1, 1, 1), np.uint8)
    start[0, 1] = 1
    condition = Condition(given=Given(start, np.ones(1, bool)))
    found = clips.continued(draw, condition, frames)
    assert found[0, :, 0, 0, 0].tolist() == list(range(frames))
    assert seen == [(0, [0, 1]), (1, [3, 4]), (2, [6, 7])][: 1 + max(0, -(-(frames - 5) // 3))]


@pytest.mark.parametrize("frames", [4.5, "24"])
def test_a_number_of_frames_that_is_not_whole_is_refused(frames):
    shape = configs.tiny(image_shape=(4, 4, 4, 1), condition=ConditionSpec())
    with refused(SampleError, f"frames: found {frames!r}", "expected a whole number"):
        checks.frames(frames, shape)


@pytest.mark.parametrize(("frames", "count"), [(None, 1), (5, 1), (6, 1), (7, 2), (10, 2), (11, 3)])
def test_windows_of_a_clip(frames, count):
    spec = ConditionSpec().with_given(2, (6, 4, 4, 1))
    shape = configs.tiny(image_shape=(4, 4, 4, 1), condition=spec)
    assert clips.windows(frames, shape) == count


@pytest.mark.parametrize(
    ("given", "frames", "words"),
    [(0, 7, "expected 1 to 6"), (2, 2, "expected 3 or more"), (0, 0, "expected 1 to 6")],
)
def test_a_length_that_the_model_cannot_draw_is_refused(given, frames, words):
    spec = ConditionSpec().with_given(given, (6, 4, 4, 1))
    shape = configs.tiny(image_shape=(6 - given, 4, 4, 1), condition=spec)
    with refused(SampleError, f"frames: found {frames}", words):
        checks.frames(frames, shape)
    checks.frames(6, shape)
    with refused(SampleError, "frames", "the model draws images"):
        checks.frames(3, configs.tiny())


def test_a_model_continues_the_frames_that_it_is_given(tmp_path):
    videos = {"frame_stride": 2, "frames_per_second": None}
    model = sid2core.load_model(continuing.saved(tmp_path, videos=videos))
    given = FRAMES[:1, ..., :1]
    found = model.sample(2, given=given, frames=5, steps=1)
    assert found.shape == (2, 5, 4, 4, 1)
    assert (found[:, :1] == given).all()
    assert (found[:, :3] == model.sample(2, given=given, steps=1)).all()
    with refused(ConditionError, "given: missing", "the model continues 1 frames"):
        model.sample(2)
