import io
import os
import pickle
import resource
import subprocess
import sys
import uuid
import zipfile

import fsspec
import numpy as np
import pytest

from sid2core.data.errors import DataError
from sid2core.data.sources import opening
from sid2core.data.sources.protocol import Entry, listed
from sid2core.data.storage import npy
from tests import tiny
from tests.data import packs, pictures

IMAGES = np.stack([pictures.noise(4, 4, seed=row) for row in range(5)])
LABELS = np.array([3, 1, 3, 10, 1])


def opened(path, **keys):
    data = tiny.source("arrays", **({"path": str(path), "image_size": 4, "channels": 3} | keys))
    return opening.opened(tiny.params(data=data).data)[0]


def npy_bytes(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def found(source):
    names = source.class_names
    return [names[one.label] if one.problem is None else one.problem for one in listed(source)]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Copies go into a folder of the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def stored(folder, kind, images=IMAGES, labels=LABELS):
    """The arrays in each form that there is."""
    path = folder / ("a.npy" if kind == "npy" else "a.npz")
    if kind == "npy":
        np.save(path, images)
        np.save(folder / "labels.npy", labels)
    elif kind == "npz":
        np.savez(path, images=images, labels=labels)
    elif kind == "compressed":
        np.savez_compressed(path, images=images, labels=labels)
    elif kind == "adm":
        np.savez(path, images, labels)
    elif kind == "remote":
        np.savez(path, images=images, labels=labels)
        address = f"memory://{uuid.uuid4().hex}.npz"
        fsspec.filesystem("memory").pipe_file(address, path.read_bytes())
        return address
    return path


KINDS = ("npy", "npz", "compressed", "adm", "remote")


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_each_form(tmp_path, temporary, kind):
    labels = {"labels": str(tmp_path / "labels.npy")} if kind == "npy" else {}
    source = opened(stored(tmp_path, kind), **labels)
    assert source.class_names == ("1", "3", "10")
    assert found(source) == ["3", "1", "3", "10", "1"]
    assert (source.shape, source.captioned, source.fixed, source.grouped) == (
        (4, 4, 3),
        False,
        False,
        False,
    )
    copies = list(temporary.iterdir())
    assert len(copies) == {"compressed": 2, "remote": 2}.get(kind, 0)
    npy.mapped.cache_clear()
    npy._located.cache_clear()
    sent, entries = pickle.loads(pickle.dumps((source, source.index())))
    assert [entry.key for entry in entries] == [f"{row:08d}" for row in range(5)]
    for entry, image in zip(entries, IMAGES, strict=True):
        content = sent.read(entry)
        assert content.size == (4, 4)
        np.testing.assert_array_equal(content.image, image)
    assert source.stamp() == sent.stamp()


@pytest.mark.parametrize("kind", ["compressed", "remote"])
def test_a_copy_that_is_not_there_on_another_machine_is_made_again(tmp_path, temporary, kind):
    source = opened(stored(tmp_path, kind))
    entries = source.index()
    for path in temporary.iterdir():
        path.unlink()
    npy.mapped.cache_clear()
    npy._located.cache_clear()
    np.testing.assert_array_equal(source.read(entries[2]).image, IMAGES[2])


def test_copies_go_when_the_process_ends(tmp_path):
    path = stored(tmp_path, "compressed")
    code = (
        "import os, tempfile; from sid2core.data.storage import npy\n"
        f"npy.located({str(path)!r}, ('images',))\n"
        "assert os.listdir(tempfile.gettempdir())\n"
        "if os.fork() == 0: raise SystemExit\n"  # a forked process leaves them alone
        "os.wait(); assert os.listdir(tempfile.gettempdir())"
    )
    environment = tiny.environment(TMPDIR=str(tmp_path / "tmp"))
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("images", [IMAGES[..., 0], IMAGES[..., :1]])
def test_grey_arrays(tmp_path, images):
    np.save(tmp_path / "a.npy", images)
    source = opened(tmp_path / "a.npy", channels=1)
    assert source.class_names == ("unlabelled",)
    assert found(source) == ["unlabelled"] * 5
    for entry, image in zip(source.index(), images, strict=True):
        np.testing.assert_array_equal(source.read(entry).image, image.reshape(4, 4, 1))


def test_arrays_in_fortran_order(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(IMAGES))
    source = opened(tmp_path / "a.npy")
    np.testing.assert_array_equal(source.read(source.index()[3]).image, IMAGES[3])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(["b", "a", "b", "é", "a"]), ["b", "a", "b", "é", "a"]),
        (np.array([b"b", b"a", b"b", b"c", b"a"]), ["b", "a", "b", "c", "a"]),
        (np.array([[1], [0], [1], [1], [0]], np.uint8), ["1", "0", "1", "1", "0"]),
        (np.array([True, False, True, True, True]), ["1", "0", "1", "1", "1"]),
        (np.array([0, -1, 0, 0, 0]), ["0", "label -1; there are classes 0 to 0", "0", "0", "0"]),
    ],
)
def test_labels_are_integers_or_names(tmp_path, labels, classes):
    assert found(opened(stored(tmp_path, "npz", labels=labels))) == classes


def test_class_names_are_counted_by_labels(tmp_path):
    (tmp_path / "names").write_text("a\nb\nc\nd\n")
    source = opened(stored(tmp_path, "npz"), class_names=str(tmp_path / "names"))
    assert source.class_names == ("a", "b", "c", "d")
    assert found(source) == ["d", "b", "d", "label 10; there are classes 0 to 3", "b"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES / 255, r"has images of float64 and shape \[5, 4, 4, 3\]; expected uint8: convert"),
        (np.zeros((5, 3, 4, 6), np.uint8), "expected .*with 1, 3 or 4 channels last: np.moveaxis"),
        (IMAGES[0, 0], r"expected \[n, h, w\] or"),
        (IMAGES[:, :0], "expected a pixel at least"),
        (IMAGES[:0], "holds no image with a label; found nothing"),
        (np.array([{}] * 5), "holds Python objects, which are never unpickled"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "compressed"])
def test_what_is_no_array_of_pictures_is_refused(tmp_path, images, message, kind):
    path = stored(tmp_path, kind, images, LABELS[: len(images)])
    with pytest.raises(DataError, match=message):
        opened(path).index()


@pytest.mark.parametrize(
    "labels", [LABELS[:4], LABELS / 2, np.eye(5, dtype=int), np.array([object()] * 5)]
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels):
    wanted = "one for each of 5 images: give each split its own|never unpickled"
    with pytest.raises(DataError, match=wanted):
        opened(stored(tmp_path, "npz", labels=labels)).index()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", packs.zipped({"x.npy": b""}), "has no array images or arr_0; found"),
        (
            "a.npz",
            packs.zipped({"images.npy": b"no"}),
            "images.npy is no NumPy array, or a damaged",
        ),
        ("a.npz", b"", "is empty: fetch or make it anew"),
        ("a.npz", b"PK", "cannot be read as a zip archive"),
        ("a.npy", b"", "is no NumPy array, or a damaged one"),
        ("a.npy", b"\x93NUMPY\x01\x00\x05\x00(((((", "is no NumPy array, or a damaged one"),
        (
            "a.npy",
            npy_bytes(IMAGES)[:-1],
            r"has 239 of the 240 bytes that its shape \[5, 4, 4, 3\]",
        ),
        ("a.csv", b"", "is no .npz or .npy file: save the arrays by np.savez"),
        (
            "a.npy",
            None,
            "not found from .*; expected an .npz or .npy file: set data.source",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / name).index()


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.npy", "not found"), ("labels.csv", "is no .npy file: save the lab")],
)
def test_files_of_labels_that_are_none_are_refused(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        opened(stored(tmp_path, "npy"), labels=str(tmp_path / name)).index()


def test_a_damaged_or_encrypted_member_is_refused(tmp_path):
    content = bytearray(stored(tmp_path, "compressed").read_bytes())
    content[80] ^= 255
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(DataError, match="images.npy is no NumPy array, or a damaged one"):
        opened(tmp_path / "b.npz").index()
    content = bytearray(stored(tmp_path, "npz").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(DataError, match="images.npy is encrypted; save it without a password"):
        opened(tmp_path / "c.npz").index()


def test_a_bomb_needs_more_room_than_there_is(tmp_path, monkeypatch):
    path = stored(tmp_path, "compressed")
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(
        DataError, match="needs 368 bytes in .*tmp for an unpacked copy, which has 100"
    ):
        opened(path).index()


def test_a_disk_that_fills_up_is_told(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    path = stored(tmp_path, "compressed")
    monkeypatch.setattr("builtins.open", lambda handle, mode: os.close(handle) or Full())
    with pytest.raises(DataError, match="No space left on device; make room, or set TMPDIR"):
        opened(path).index()


def test_a_large_array_is_not_read_whole(tmp_path):
    """A sparse file of 8 GiB: reading two rows of it touches two rows."""
    path = tmp_path / "a.npy"
    header = npy_bytes(np.empty((0, 64, 64, 3), np.uint8)).replace(b"(0, 64", b"(700000, 64")
    header = header.replace(b"     \n", b"\n")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 700_000 * 64 * 64 * 3)
    assert npy.located(str(path)).shape == (700_000, 64, 64, 3)
    source = opened(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for row in (0, 699_999):
        assert not source.read(Entry("k", 0, row)).image.any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_an_array_in_a_plain_npz_is_mapped_where_it_lies(tmp_path):
    path = stored(tmp_path, "npz")
    where = npy.located(str(path), ("images", "arr_0"))
    assert where.path == str(path)
    assert zipfile.ZipFile(path).getinfo("images.npy").compress_type == zipfile.ZIP_STORED
    np.testing.assert_array_equal(npy.mapped(where), IMAGES)


def test_arrays_of_other_names(tmp_path):
    """As MedMNIST writes them."""
    path = tmp_path / "a.npz"
    np.savez(path, train_images=IMAGES, train_labels=LABELS[:, None], val_labels=LABELS[:2])
    with pytest.raises(DataError, match=r"found train_images, .*set data\.image_column"):
        opened(path).index()
    with pytest.raises(DataError, match=r"\(train_labels, val_labels\): set data.label_column"):
        opened(path, image_column="train_images").index()
    source = opened(path, image_column="train_images", label_column="train_labels")
    assert found(source) == ["3", "1", "3", "10", "1"]
    assert source.fields.ignored == ("val_labels",)
    np.savez(path, images=IMAGES, y=LABELS)
    assert opened(path).fields.label == "y"
    assert found(opened(path, unlabelled=True)) == ["unlabelled"] * 5
