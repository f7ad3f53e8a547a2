import logging
import shutil
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core.data.errors import DataError
from sid2core.data.load.shards import Layout
from sid2core.errors import Sid2Error
from sid2core.metrics import image_sets
from sid2core.metrics.errors import MetricsError
from tests.data import pictures, stored

IMAGES = np.stack([pictures.noise(4, 6, seed=row) for row in range(5)])
GREY = IMAGES[..., :1]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Unpacked copies go into a folder of the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def read(path, channels=3, size=2):
    return np.concatenate(list(image_sets.opened(str(path), channels).chunks(size)))


def folder(root, images=IMAGES, names="edcba"):
    for image, name in zip(images, names, strict=False):
        pictures.save(root / f"{name}.png", image)
    return root


def test_a_flat_folder_is_in_the_order_of_names(tmp_path):
    found = image_sets.opened(str(folder(tmp_path / "a")))
    assert (len(found), found.shape, found.image_format) == (5, (4, 6, 3), "lossless")
    np.testing.assert_array_equal(read(tmp_path / "a"), IMAGES[::-1])


@pytest.mark.parametrize("packed", [None, "zip", "tar"])
def test_folders_of_classes_and_archives(tmp_path, packed):
    root = folder(tmp_path / "a", names=["y/2", "y/1", "x/9", "x/8", "x/z/0"])
    if packed:
        root = shutil.make_archive(str(tmp_path / "b"), packed, root)
    np.testing.assert_array_equal(read(root), IMAGES[[3, 2, 4, 1, 0]])


@pytest.mark.parametrize("names", [("arr_0", "arr_1"), ("images", "labels")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_others_and_ours(tmp_path, names, save):
    save(tmp_path / "a.npz", **dict(zip(names, (IMAGES, np.arange(5)), strict=True)))
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), IMAGES)


@pytest.mark.parametrize("images", [GREY, GREY[..., 0], np.asfortranarray(IMAGES)])
def test_a_plain_array(tmp_path, images):
    np.save(tmp_path / "a.npy", images)
    np.testing.assert_array_equal(read(tmp_path / "a.npy"), images.reshape(5, 4, 6, -1))


def test_an_array_is_not_loaded_as_a_whole(tmp_path):
    """10 GB of zeros that take no room: only what is asked for is read."""
    count = 50_000
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 256, 256, 3)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 256 * 256 * 3)
    found = image_sets.opened(str(tmp_path / "a.npy"))
    assert len(found) == count
    assert next(found.chunks(3)).shape == (3, 256, 256, 3)


def parquet(root, split="train", shape=(4, 6, 3)):
    images, labels = stored.records(11, shape)
    stored.shards(root, Layout(shape, ("a", "b"), split), images, labels)
    return images


def test_parquet_of_this_project(tmp_path):
    images = parquet(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text("{}")
    for path in (tmp_path / "a", tmp_path / "a" / "train-*.parquet"):
        np.testing.assert_array_equal(read(path, size=4), images)
    one = tmp_path / "a" / "train-00000-of-00002.parquet"
    np.testing.assert_array_equal(read(one, size=4), images[:8])


def test_splits_are_not_mixed(tmp_path):
    parquet(tmp_path, "train")
    parquet(tmp_path, "eval")
    with pytest.raises(MetricsError, match=r"splits eval, train: give one, such as eval-\*"):
        image_sets.opened(str(tmp_path))
    assert len(image_sets.opened(str(tmp_path / "eval-*.parquet"))) == 11


def test_the_provenance_of_a_set(tmp_path):
    root = folder(tmp_path / "a")
    provenance = image_sets.provenance(image_sets.opened(str(root)))
    assert provenance == {"shape": [4, 6, 3], "image_format": "lossless", "declared": []}
    pictures.save(root / "f.JPG", IMAGES[0])
    assert image_sets.provenance(image_sets.opened(str(root)))["image_format"] == "jpeg"
    pictures.save(root / "g.webp", IMAGES[0])
    assert image_sets.provenance(image_sets.opened(str(root)))["image_format"] == "jpeg+webp"


def test_grey_files(tmp_path):
    root = folder(tmp_path / "a", GREY[..., 0])
    np.testing.assert_array_equal(read(root, channels=1), GREY[::-1])
    np.testing.assert_array_equal(read(root), np.repeat(GREY[::-1], 3, axis=-1))
    pictures.save(root / "c.png", IMAGES[0])
    with pytest.raises(MetricsError, match=r"c\.png has colours, .* for grey images"):
        read(root, channels=1)


def test_files_of_other_kinds_are_left_out_and_reported(tmp_path, caplog):
    root = folder(tmp_path / "a")
    (root / "labels.csv").write_text("")
    with caplog.at_level(logging.WARNING):
        assert len(read(root)) == 5
    assert "1 file(s) are no images by name" in caplog.text


def test_sizes_must_agree(tmp_path):
    root = folder(tmp_path / "a")
    pictures.save(root / "d.png", IMAGES[0][:, :5])
    with pytest.raises(MetricsError, match=r"d\.png has 5x4 pixels and the first image 6x4"):
        read(root)


@pytest.mark.parametrize("name", ["a.png", "d.png"])
def test_a_damaged_file_is_named(tmp_path, name):
    root = folder(tmp_path / "a")
    path = root / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MetricsError, match=rf"{name} cannot be measured: .*; repair or remove it"):
        read(root)


def test_a_damaged_array(tmp_path):
    np.savez(tmp_path / "a.npz", IMAGES)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.npz cannot be read as a zip archive"):
        image_sets.opened(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), "images of float32 .*; expected uint8"),
        (IMAGES.transpose(0, 3, 1, 2), r"\[5, 3, 4, 6\]; expected uint8 of"),
        (IMAGES[0, :, 0], r"shape \[4, 3\]"),
        (IMAGES[None], r"shape \[1, 5, 4, 6, 3\]"),
        (IMAGES[:, :0], r"shape \[5, 0, 6, 3\]"),
        (IMAGES[:0], "holds no image"),
        (np.array([{}]), "Python objects, which are never unpickled"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, images, message):
    np.savez(tmp_path / "a.npz", images)
    with pytest.raises(Sid2Error, match=message):
        image_sets.opened(str(tmp_path / "a.npz"))


def test_what_is_no_set_of_images_is_refused(tmp_path):
    np.savez(tmp_path / "names.npz", pictures=IMAGES)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("")
    (tmp_path / "a.parquet").write_text("PAR1")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name, message in {
        "names.npz": "has no array arr_0 or images, and no mu and sigma",
        "empty": "holds no image",
        "empty.zip": "holds no image",
        "text": "is a file; expected",
        "missing": "not found",
        "missing.npz": "not found",
        "a.parquet": "cannot be read as Parquet of this project",
    }.items():
        with pytest.raises(Sid2Error, match=message):
            image_sets.opened(str(tmp_path / name))


def test_parquet_of_others_and_of_clips_is_refused(tmp_path):
    parquet(tmp_path / "clips", shape=(2, 4, 6, 3))
    with pytest.raises(MetricsError, match=r"records of shape \[2, 4, 6, 3\]; expected images"):
        image_sets.opened(str(tmp_path / "clips"))
    pq.write_table(pa.table({"image": [b"x"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(MetricsError, match="dvc repro prepare"):
        image_sets.opened(str(tmp_path / "a.parquet"))
