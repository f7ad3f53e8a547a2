import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

import sid2core
from sid2core.data.errors import DataError
from sid2core.metrics import image_sets, sample_files
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.sample_files import Samples
from tests.data import stored

NAMES = ("cat", "dog", "owl")
IMAGES, LABELS = stored.records(11, (4, 5, 3))


def samples(images=IMAGES, labels=LABELS, size=4, **change):
    labels = labels[: len(images)]
    parts = [
        (images[start : start + size], labels[start : start + size])
        for start in range(0, len(images), size)
    ]
    announced = {"count": len(images), "shape": images.shape[1:], "class_names": NAMES}
    return Samples(**(announced | {"chunks": iter(parts)} | change))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def read(path, channels=3, size=3):
    found = image_sets.opened(str(path), channels)
    chunks = list(found.chunks(size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    images = np.concatenate(chunks)
    assert images.shape == (len(found), *found.shape)
    assert images.dtype == np.uint8
    return images


PLACES = {"png": "samples", "npz": "samples.npz", "parquet": "samples.parquet"}


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 30),
    size=st.integers(1, 12),
    chunk=st.integers(1, 12),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3])),
    form=st.sampled_from(sorted(PLACES)),
)
def test_what_is_written_is_read(tmp_path_factory, count, size, chunk, shape, form):
    path = tmp_path_factory.mktemp("out") / PLACES[form]
    images, labels = stored.records(count, shape, seed=count)
    sample_files.write(path, samples(images, labels, size))
    np.testing.assert_array_equal(read(path, shape[-1], chunk), images)
    assert image_sets.opened(str(path), shape[-1]).image_format == "lossless"


@pytest.mark.parametrize("form", sorted(PLACES))
def test_a_form_may_be_named_and_bytes_do_not_depend_on_chunks(tmp_path, form):
    contents = []
    for size in (1, 11):
        path = tmp_path / f"{size}" / "anything"
        sample_files.write(path, samples(size=size), form)
        found = [path] if path.is_file() else sorted(path.iterdir())
        contents.append([(one.name, one.read_bytes()) for one in found])
        assert files(path.parent) == ["anything"]
    assert contents[0] == contents[1]


def test_png_names_contain_order_and_label(tmp_path):
    sample_files.write(tmp_path / "out", samples())
    names = files(tmp_path / "out")
    assert names == [f"{index:05d}-{label}.png" for index, label in enumerate(LABELS)]
    with Image.open(tmp_path / "out" / names[3]) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), IMAGES[3])


def test_npz_is_what_adm_writes(tmp_path):
    sample_files.write(tmp_path / "out.npz", samples())
    np.savez(tmp_path / "adm.npz", IMAGES, LABELS.astype(np.int64))
    with np.load(tmp_path / "out.npz") as found, np.load(tmp_path / "adm.npz") as expected:
        assert found.files == expected.files == ["arr_0", "arr_1"]
        for name in found.files:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])


def test_parquet_has_the_datasets_columns(tmp_path):
    sample_files.write(tmp_path / "out.parquet", samples())
    dataset = image_sets.opened(str(tmp_path / "out.parquet")).dataset
    assert (dataset.split, dataset.class_names) == ("samples", NAMES)
    assert dataset.keys == tuple(f"{index:08d}" for index in range(11))
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_array_equal(dataset.images, IMAGES)


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_clips_have_frames(tmp_path, form):
    clips = np.stack([IMAGES, IMAGES], axis=1)
    sample_files.write(tmp_path / "out", samples(clips), form)
    with pytest.raises(MetricsError, match=r"not a clip \[2, 4, 5, 3\]: write npz, parquet"):
        sample_files.write(tmp_path / "png", samples(clips), "png")


@pytest.mark.parametrize(
    ("name", "form"), [("out", "jpeg"), ("out", "JPG"), ("out.jpg", None), ("a.JPEG", None)]
)
def test_jpeg_is_refused_with_the_reason(tmp_path, name, form):
    with pytest.raises(MetricsError, match="2.5 were measured as 5.8"):
        sample_files.write(tmp_path / name, samples(), form)
    assert files(tmp_path) == []


def test_an_unknown_form_is_refused():
    with pytest.raises(MetricsError, match="no format 'tiff'; there are png, npz, parquet"):
        sample_files.form_of(Path("out"), "tiff")


@pytest.mark.parametrize("form", sorted(PLACES))
def test_what_is_there_stays_unless_forced(tmp_path, form):
    path = tmp_path / PLACES[form]
    sample_files.write(path, samples())
    fewer = IMAGES[:2]
    with pytest.raises(MetricsError, match="is there already; .* by --force"):
        sample_files.write(path, samples(fewer))
    np.testing.assert_array_equal(read(path), IMAGES)
    sample_files.write(path, samples(fewer), force=True)
    np.testing.assert_array_equal(read(path), fewer)
    assert files(tmp_path) == [PLACES[form]]


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "out").mkdir()
    sample_files.write(tmp_path / "out", samples())
    assert len(files(tmp_path / "out")) == 11


@pytest.mark.parametrize("form", sorted(PLACES))
def test_a_folder_of_other_things_is_never_replaced(tmp_path, form):
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "chapter.tex").write_text("")
    with pytest.raises(MetricsError, match=r"holds chapter\.tex; choose another place"):
        sample_files.write(path, samples(), form, force=True)
    assert files(path) == ["chapter.tex"]


def test_a_file_cannot_take_a_folders_place(tmp_path):
    sample_files.write(tmp_path / "out", samples())
    with pytest.raises(MetricsError, match="is a folder; choose"):
        sample_files.write(tmp_path / "out", samples(), "npz", force=True)


def test_the_working_folder_and_links_are_followed(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    sample_files.write(Path("."), samples())
    assert len(files(tmp_path / "out")) == 11
    (tmp_path / "link").symlink_to(tmp_path / "out", target_is_directory=True)
    sample_files.write(tmp_path / "link", samples(IMAGES[:2]), force=True)
    assert len(files(tmp_path / "out")) == 2
    assert os.path.islink(tmp_path / "link")


@pytest.mark.parametrize("form", sorted(PLACES))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 12}, "11 samples came, expected 12"),
        ({"count": 10}, "11 samples came, expected 10"),
        ({"shape": (4, 4, 3)}, r"expected uint8 of \(4, 4, 3\)"),
        ({"chunks": [(IMAGES.astype(np.float32), LABELS)]}, "a chunk has float32"),
        ({"chunks": [(IMAGES, LABELS[:3])]}, r"labels int32 \(3,\)"),
        ({"chunks": [(IMAGES, LABELS.astype(float))]}, "labels float64"),
    ],
)
def test_samples_that_are_not_as_announced_leave_nothing(
    unchecked, tmp_path, form, change, message
):
    path = tmp_path / PLACES[form]
    sample_files.write(path, samples(IMAGES[:1]))
    with pytest.raises(MetricsError, match=message):
        sample_files.write(path, samples(**change), force=True)
    assert len(read(path)) == 1
    assert files(tmp_path) == [PLACES[form]]


def test_parquet_needs_the_names_of_classes(tmp_path):
    with pytest.raises(MetricsError, match="sample 1 has label 1; 1 names"):
        sample_files.write(tmp_path / "a.parquet", samples(class_names=("cat",)))
    assert files(tmp_path) == []


CLIPS = np.random.default_rng(5).integers(0, 256, (4, 3, 6, 8, 3), dtype=np.uint8)


def frames_of(path):
    """The frames of an animation, or of a folder of pictures; and the time of each, if it has one.

    The time of an animation's frame is known when the frame is decoded.
    """
    if path.is_dir():
        return np.stack([np.asarray(Image.open(one)) for one in sorted(path.iterdir())]), None
    with Image.open(path) as file:
        found, times = [], []
        for frame in ImageSequence.Iterator(file):
            found.append(np.asarray(frame.convert("RGB")))
            times.append(frame.info["duration"])
    return np.stack(found), times


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["webp", "frames", "gif"])
def test_clips_that_play_have_all_frames(tmp_path, form, channels):
    clips = CLIPS[..., :channels]
    sample_files.write(tmp_path / "out", samples(clips, rate=25.0), form)
    suffix = "" if form == "frames" else f".{form}"
    assert files(tmp_path / "out") == [f"{row:05d}-{LABELS[row]}{suffix}" for row in range(4)]
    for row, clip in enumerate(clips):
        found, times = frames_of(tmp_path / "out" / f"{row:05d}-{LABELS[row]}{suffix}")
        assert times in (None, [40, 40, 40])
        expected = clip[..., 0] if (form, channels) == ("frames", 1) else clip
        if (form, channels) != ("gif", 3):  # 48 pixels of noise have few of 256 colours
            np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))
        assert len(found) == len(clip)


def test_frames_are_replaced_only_where_nothing_else_is(tmp_path):
    sample_files.write(tmp_path / "out", samples(CLIPS), "frames")
    sample_files.write(tmp_path / "out", samples(CLIPS[:1]), "gif", force=True)
    assert files(tmp_path / "out") == ["00000-0.gif"]
    sample_files.write(tmp_path / "out", samples(CLIPS[:1]), "frames", force=True)
    (tmp_path / "out" / "00000-0" / "notes.txt").write_text("")
    with pytest.raises(MetricsError, match="holds 00000-0; choose another place"):
        sample_files.write(tmp_path / "out", samples(CLIPS[:1]), "frames", force=True)


def test_images_do_not_play_and_a_clip_is_no_file_of_many():
    with pytest.raises(MetricsError, match=r"gif is for clips, and these are images \[4, 5, 3\]"):
        sample_files.write(Path("out"), samples(), "gif")
    with pytest.raises(MetricsError, match="would be a single clip; name a folder"):
        sample_files.form_of(Path("out.webp"), None)


def test_mp4_without_pyav_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"mp4 needs PyAV: run `pip install .*\[video\]"):
        sample_files.write(tmp_path / "out", samples(CLIPS), "mp4")
    assert files(tmp_path) == []


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 31)])
def test_mp4_is_near_to_the_clip(tmp_path, height, width):
    av = pytest.importorskip("av")
    y, x = np.mgrid[:height, :width]
    clip = np.stack([128 + 100 * np.sin((x + y + 2 * time) / 6) for time in range(5)])
    clips = np.repeat(clip[None, ..., None], 3, -1).astype(np.uint8)
    sample_files.write(tmp_path / "out", samples(clips, rate=12.5), "mp4")
    with av.open(str(tmp_path / "out" / f"00000-{LABELS[0]}.mp4")) as file:
        assert file.streams.video[0].average_rate == 12.5
        found = np.stack([one.to_ndarray(format="rgb24") for one in file.decode(video=0)])
    assert found.shape == clips.shape[1:]
    assert np.abs(found.astype(int) - clips[0]).mean() < 4


def test_what_a_model_draws_is_saved_by_one_call(tmp_path):
    sid2core.save_samples(IMAGES, tmp_path / "out.npz", labels=LABELS)
    np.testing.assert_array_equal(read(tmp_path / "out.npz"), IMAGES)
    sid2core.save_samples(CLIPS, tmp_path / "clips")
    with np.load(tmp_path / "clips") as file:
        np.testing.assert_array_equal(file["arr_0"], CLIPS)
    sid2core.save_samples(CLIPS, str(tmp_path / "play"), "gif")
    assert len(files(tmp_path / "play")) == 4
