import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

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
    with pytest.raises(MetricsError, match=r"not a clip \[2, 4, 5, 3\]: write npz or parquet"):
        sample_files.write(tmp_path / "png", samples(clips))


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
