import numpy as np
import pytest
from PIL import Image

import sid2core
from sid2core.data.load.shards import Layout
from sid2core.metrics.clips import sets as clip_sets
from sid2core.metrics.clips.sets import Cut
from sid2core.metrics.errors import MetricsError
from tests.data import pictures, stored
from tests.refusals import refused

CLIPS = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 8, 3), dtype=np.uint8)


def read(path, cut=None, size=2):
    parts = list(clip_sets.opened(str(path), cut or Cut()).chunks(size))
    assert {len(part) for part in parts[:-1]} <= {size}
    return np.concatenate(parts)


def frames(root, clips=CLIPS):
    """More than nine frames, so that natural order differs from that of names."""
    for number, clip in enumerate(clips):
        for index, frame in enumerate(clip):
            pictures.save(root / f"{number}/frame{index + 8}.png", frame)
    return root


def test_arrays_and_folders_of_them(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=CLIPS)
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), CLIPS)
    np.save(tmp_path / "b.npy", CLIPS[1])
    np.testing.assert_array_equal(read(tmp_path), np.concatenate([CLIPS, CLIPS[1:2]]))
    found = clip_sets.opened(str(tmp_path), Cut(frames=3))
    assert (len(found), found.shape, found.provenance) == (6, (3, 6, 8, 3), {})
    np.testing.assert_array_equal(read(tmp_path / "b.npy", Cut(frames=3))[0], CLIPS[1, :3])


def test_folders_of_frames_are_clips_in_natural_order(tmp_path):
    np.testing.assert_array_equal(read(frames(tmp_path / "a")), CLIPS)
    assert read(tmp_path / "a", Cut(size=3)).shape == (5, 4, 3, 4, 3)


def test_parquet_of_this_project(tmp_path):
    clips, labels = stored.records(11, (4, 6, 8, 3))
    stored.shards(tmp_path, Layout((4, 6, 8, 3), ("a", "b"), "train"), clips, labels)
    np.testing.assert_array_equal(read(tmp_path), clips)


def test_the_protocol_measures_several_clips_of_a_video(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 18, 4, 8, 3), np.uint8))
    found = clip_sets.opened(str(tmp_path / "a.npy"), Cut(protocol=True))
    assert (len(found), found.shape) == (12, (16, 4, 4, 3))
    assert found.real_clips.startswith("2 windows x 3 crops")
    assert [len(part) for part in found.chunks(5)] == [5, 5, 2]


def test_what_cannot_be_measured_is_named(tmp_path):
    frames(tmp_path / "a")
    pictures.save(tmp_path / "a/loose.png", CLIPS[0, 0])
    with refused(MetricsError, f"{tmp_path}/a", "expected <clip>/<frame image>"):
        read(tmp_path / "a")
    np.save(tmp_path / "b.npy", CLIPS.astype(float))
    with refused(MetricsError, "b.npy", "clips of float64", "save them so"):
        read(tmp_path / "b.npy")
    np.save(tmp_path / "b.npy", CLIPS)
    with refused(MetricsError, "b.npy, clip 0 has 4 frames; 5 are measured"):
        read(tmp_path / "b.npy", Cut(frames=5))


@pytest.mark.parametrize(
    ("shape", "size", "cure"),
    [
        ((3, 6, 8, 3), None, "give --frames"),
        ((4, 3, 4, 3), None, "give --size"),
        ((4, 6, 6, 3), 6, "crop them to one proportion"),
        ((4, 6, 8, 1), None, "one number of channels"),
    ],
)
def test_clips_of_several_shapes_are_refused_with_what_helps(tmp_path, shape, size, cure):
    np.save(tmp_path / "a.npy", CLIPS)
    np.save(tmp_path / "b.npy", np.zeros((1, *shape), np.uint8))
    with refused(MetricsError, f"b.npy, clip 0 gives clips of {list(shape)}", cure):
        read(tmp_path, Cut(size=size))


def test_an_empty_folder_is_refused(tmp_path):
    with refused(MetricsError, "holds no clip", "[n, f, h, w, c]"):
        read(tmp_path)


@pytest.mark.parametrize("colours", [True, False])
def test_grey_frames_for_an_extractor_of_grey_clips(tmp_path, colours):
    clips = CLIPS if colours else np.repeat(CLIPS[..., :1], 3, axis=-1)
    frames(tmp_path / "a", clips)
    if colours:
        with refused(MetricsError, "has colours", "another extractor"):
            read(tmp_path / "a", Cut(channels=1))
    else:
        np.testing.assert_array_equal(read(tmp_path / "a", Cut(channels=1)), clips[..., :1])


def test_video_files_by_pyav(tmp_path):
    """A GIF of 20 frames; frame t is grey 10 t."""
    grey = [np.full((8, 12, 3), 10 * time, np.uint8) for time in range(20)]
    first, *rest = map(Image.fromarray, grey)
    (tmp_path / "a").mkdir()
    first.save(tmp_path / "a/b.gif", save_all=True, append_images=rest, duration=40)
    with refused(MetricsError, "a", "--frames"):
        read(tmp_path / "a")
    found = clip_sets.opened(str(tmp_path / "a"), Cut(frames=3))
    assert (found.shape, found.image_format) == ((3, 8, 12, 3), "video")
    assert found.provenance == {"frame_stride": 1}
    assert read(tmp_path / "a", Cut(frames=3))[0, :, 0, 0, 0].tolist() == [0, 10, 20]
    found = clip_sets.opened(str(tmp_path / "a"), Cut(protocol=True, size=4))
    assert (len(found), found.shape, found.image_format) == (6, (16, 4, 4, 3), "lossless")
    starts = read(tmp_path / "a", Cut(protocol=True, size=4))[:, 0, 0, 0, 0]
    assert starts.tolist() == [0, 0, 0, 40, 40, 40]


def test_animations_in_one_folder_are_clips(tmp_path):
    """As ``sid2 samples`` writes them; equal frames count."""
    clips = CLIPS[:, [0, 1, 1, 2, 2]]
    sid2core.save_samples(clips, tmp_path / "webp", "webp")
    np.testing.assert_array_equal(read(tmp_path / "webp", Cut(frames=5)), clips)
    pictures.save(tmp_path / "webp/poster.jpg", CLIPS[0, 0])
    with refused(MetricsError, f"{tmp_path}/webp", "5 video(s) and 1 image(s), such as poster.jpg"):
        read(tmp_path / "webp", Cut(frames=5))


def test_mp4_files_are_read_as_they_were_written(tmp_path):
    """H.264 keeps even grey that changes slowly."""
    levels = np.array([[40, 50, 60], [140, 130, 120]], np.uint8)
    clips = np.broadcast_to(levels[..., None, None, None], (2, 3, 16, 16, 3))
    sid2core.save_samples(np.ascontiguousarray(clips), tmp_path / "mp4", "mp4")
    found = read(tmp_path / "mp4", Cut(frames=3))
    assert np.abs(found.astype(int) - clips).max() <= 6
