import logging
import os
import pickle
import uuid
import zipfile

import numpy as np
import pytest

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import folders
from tests.data import packs, pictures
from tests.data.layouts import KINDS, found, frames, opened, put
from tests.refusals import NOT_UTF8, OUTSIDE, SPLITS, refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_the_same_on_disk_in_archives_and_behind_addresses(tmp_path, kind):
    members = {
        "n10/a/b.png": packs.png(1),
        "n02/1.PNG": packs.png(2),
        "n02/2.txt": b"text",
        "n02/3.png": packs.png(3)[:60],
        "B/x y/é.jpeg": packs.png(4),
        "loose.png": packs.png(5),
    }
    source = opened(put(tmp_path / "data", members, kind))
    assert source.class_names == ("B", "n02", "n10")
    assert (source.shape, source.captioned, source.fixed, source.grouped) == (
        (4, 4, 3),
        False,
        False,
        False,
    )
    assert found(source) == {
        "B/x y/é.jpeg": "B",
        "loose.png": "it lies in no class folder",
        "n02/1.PNG": "n02",
        "n02/2.txt": "not an image by its name: .txt",
        "n02/3.png": "n02",
        "n10/a/b.png": "n10",
    }
    sent, entries = pickle.loads(pickle.dumps((source, source.index())))
    assert len(pickle.dumps(source)) < 2000
    by_key = {entry.key: entry for entry in entries}
    for seed, key in ((1, "n10/a/b.png"), (2, "n02/1.PNG"), (4, "B/x y/é.jpeg")):
        content = sent.read(by_key[key])
        np.testing.assert_array_equal(content.image, pictures.noise(4, 4, seed=seed))
        assert (content.size, content.captions) == ((4, 4), ())
    with pytest.raises(Unusable):
        sent.read(by_key["n02/3.png"])
    assert source.stamp() == sent.stamp()


def test_names_that_are_not_utf8(tmp_path):
    pictures.folder(tmp_path, {"a": 2, "b": 1})
    os.rename(tmp_path / "a/000.png", os.fsencode(tmp_path) + b"/a/\xff.png")
    os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/\xff")
    wrong = NOT_UTF8
    assert opened(tmp_path).class_names == ("a",)
    assert found(opened(tmp_path)) == {
        "a/001.png": "a",
        "a/\udcff.png": wrong,
        "\udcff/000.png": wrong,
    }


def test_folders_without_an_image_are_reported_and_no_classes(tmp_path, caplog):
    pictures.folder(tmp_path, {"a": 0, "b": 1, "c": 0, "d": 1})
    packs.write(tmp_path / "c/1.txt", b"")
    source = opened(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = [(entry.key, entry.label, entry.problem) for entry in source.index()]
    assert source.class_names == ("b", "d")
    assert found == [
        ("b/000.png", 0, None),
        ("c/1.txt", -1, "not an image by its name: .txt"),
        ("d/000.png", 1, None),
    ]
    message = (
        f"data.source.folder.path {tmp_path}: 2 folder(s) without an image are no classes: a, c"
    )
    assert caplog.messages == [message]


@pytest.mark.parametrize("source", ["folder", "frames", "imagenet"])
def test_a_missing_path_names_the_layout(tmp_path, source):
    keys = {"frames": 1, "frame_stride": 1} if source == "frames" else {}
    layout = {"frames": "<class>/<clip>/<frame image>", "imagenet": "<synset>/<image>"}
    expected = layout.get(source, "<class>/<image>")
    for path in (f"{tmp_path}/none", f"{tmp_path}/none.zip", f"memory://{uuid.uuid4().hex}"):
        with pytest.raises(DataError) as caught:
            opened(path, source, **keys)
        message = str(caught.value)
        assert message.startswith(f"data.source.{source}.path {path} not found")
        assert message.endswith(
            f"expected {path}/{expected}, or a .zip or .tar of such: set data.source.{source}.path"
        )
        assert ("not found from /" in message) != path.startswith("memory")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "a.txt",
            r"a.txt is a file; expected .*<class>/<image>, or a .zip or .tar of such: set dat",
        ),
        ("a.tar.gz", "is compressed as a whole, so .*: unpack it into a folder or a plain .tar"),
        ("a.tgz", "is compressed as a whole"),
    ],
)
def test_a_file_that_is_no_archive_is_refused(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        opened(packs.write(tmp_path / name, b"text"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_without_images_names_what_was_found(tmp_path, kind):
    path = put(tmp_path / "data", {"a/1.txt": b"", "a/2.txt": b"", "b.md": b""}, kind)
    message = (
        r"data.source.folder.path .* holds no <class>/<image>; found 2 × not an "
        "image by its name: .txt; 1 × not an image by its name: .md: convert them "
        "to JPEG, .*or set data.source.folder.path to where images "
        "are"
    )
    with pytest.raises(DataError, match=message):
        opened(path).index()


def test_a_zip_of_another_method_has_one_cure(tmp_path):
    content = packs.zipped({"a/1.png": packs.png(), "a/2.png": packs.png()}, zipfile.ZIP_LZMA)
    message = (
        "holds no <class>/<image>; found 2 × packed by method 14, neither stored nor deflated: "
        "convert them to JPEG, .*, or set data.source.folder.path to where images are$"
    )
    with pytest.raises(DataError, match=message):
        opened(packs.write(tmp_path / "a.zip", content)).index()


def test_an_empty_folder_and_an_empty_archive(tmp_path):
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "data", packs.write(tmp_path / "a.zip", packs.zipped({}))):
        with pytest.raises(DataError, match="holds no <class>/<image>; found nothing"):
            opened(path).index()


@pytest.mark.parametrize("kind", KINDS)
def test_flat_images_without_labels_are_one_class(tmp_path, kind):
    path = put(tmp_path / "data", {"1.png": packs.png(), "2.png": packs.png()}, kind)
    source = opened(path)
    assert source.class_names == ("unlabelled",)
    assert found(source) == dict.fromkeys(["1.png", "2.png"], "unlabelled")
    (tmp_path / "names").write_text("pet\n")
    assert found(opened(path, class_names=str(tmp_path / "names"))) == {
        "1.png": "pet",
        "2.png": "pet",
    }
    (tmp_path / "names").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="found 2 × it lies in no class folder"):
        opened(path, class_names=str(tmp_path / "names")).index()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_may_hold_the_folder_of_classes(tmp_path, kind, caplog):
    members = {f"x/pets/{name}/1.png": packs.png() for name in ("cat", "dog")}
    source = opened(put(tmp_path / "a", members, kind))
    with caplog.at_level(logging.INFO):
        assert found(source) == {"x/pets/cat/1.png": "cat", "x/pets/dog/1.png": "dog"}
    assert "its classes are the folders in x/pets" in caplog.text
    flat = opened(put(tmp_path / "b", {"cat/x/1.png": packs.png()}, kind))
    assert flat.class_names == ("cat",)
    beside = opened(put(tmp_path / "c", members | {"x/1.png": packs.png()}, kind))
    assert beside.class_names == ("x",)


def test_a_folder_may_hold_the_folder_of_classes(tmp_path, caplog):
    pictures.folder(tmp_path / "pets-v1", {"cat": 1, "dog": 1})
    with caplog.at_level(logging.INFO):
        assert opened(tmp_path).class_names == ("cat", "dog")
    assert "its classes are the folders in pets-v1" in caplog.text


def test_a_folder_of_masks_is_no_class(tmp_path):
    pictures.folder(tmp_path, {"images": 1, "masks": 1})
    with pytest.raises(
        DataError, match=r"images and their masks.*set data.source.folder.path to .*/images"
    ):
        opened(tmp_path).index()
    names = str(packs.write(tmp_path.parent / "names", b"images\nmasks\n"))
    assert opened(tmp_path, class_names=names).class_names == ("images", "masks")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_class_folders_that_hold_splits_are_refused(tmp_path, kind):
    """MVTec AD: category/train/good, category/test/broken, category/ground_truth/broken."""
    members = {
        f"{name}/{part}/1.png": packs.png()
        for name in ("bottle", "cable")
        for part in ("train/good", "test/broken", "test/good", "ground_truth/broken")
    }
    path = put(tmp_path / "mvtec", members | {"readme.txt": b"text"}, kind)
    with refused(DataError, SPLITS, "bottle/train, bottle/test", f"such as {path}/bottle"):
        opened(path).index()
    with refused(DataError, SPLITS, f"folder.path to {path}/bottle/train and"):
        opened(f"{path}/bottle").index()
    assert found(opened(f"{path}/bottle/test"))["broken/1.png"] == "broken"
    names = str(packs.write(tmp_path / "names", b"bottle\ncable\n"))
    assert len(found(opened(path, class_names=names))) == 9


def test_a_class_of_which_a_few_hold_splits_is_read(tmp_path):
    pictures.folder(tmp_path, {"a/train": 1, "a/test": 1, "b": 1, "c": 1})
    assert opened(tmp_path).class_names == ("a", "b", "c")


def test_words_in_the_names_of_unlabelled_images_are_mentioned(tmp_path, caplog):
    for name in ("cat_1", "cat_2", "Old dog7", "Old dog8"):
        pictures.save(tmp_path / "a" / f"{name}.png", pictures.noise(4, 4))
    assert set(found(opened(tmp_path / "a")).values()) == {"unlabelled"}
    assert "begin with 2 words (Old dog, cat)" in caplog.text
    caplog.clear()
    for name in ("IMG_1", "IMG_2"):
        pictures.save(tmp_path / "b" / f"{name}.png", pictures.noise(4, 4))
    opened(tmp_path / "b").index()
    assert not caplog.text


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("a.parquet", "set data.source.name to parquet, and data.source.parquet.path to these"),
        ("a.tar", "set data.source.name to webdataset"),
        ("a.npz", "set data.source.name to arrays"),
        ("a.zip", "set the path to one of the archives"),
    ],
)
def test_files_of_another_source_are_named(tmp_path, name, cure):
    packs.write(tmp_path / name, b"x")
    with pytest.raises(DataError, match=cure):
        opened(tmp_path).index()


def test_labels_for_files_elsewhere_show_both_names(tmp_path):
    pictures.save(tmp_path / "data/1.png", pictures.noise(4, 4))
    labels = packs.write(tmp_path / "labels.csv", b"/old/place/1.png,cat\n")
    with pytest.raises(DataError, match=r"labels name /old/place/1\.png, the files are 1\.png"):
        opened(tmp_path / "data", labels=str(labels)).index()


def test_labels_of_a_csv_with_any_folders_beside(tmp_path):
    names = ["1", "2", "few/3", "few/4", "cat/5", "cat/6", "7"]
    for name in names:
        pictures.save(tmp_path / f"{name}.png", pictures.noise(4, 4))
    (tmp_path / "labels.csv").write_text("image,class\n1.png,dog\n2,10\nfew/3.png,9\n8,owl\n")
    source = opened(tmp_path, labels=str(tmp_path / "labels.csv"))
    assert source.class_names == ("9", "10", "cat", "dog")
    missing = "data.source.folder.labels does not name it, and it lies in no class folder"
    assert found(source) == {
        "1.png": "dog",
        "2.png": "10",
        "7.png": missing,
        "cat/5.png": "cat",
        "cat/6.png": "cat",
        "few/3.png": "9",
        "few/4.png": missing,
    }
    before = source.stamp()
    (tmp_path / "labels.csv").write_text("1,dog\n")
    assert source.stamp() != before


def test_class_names_fix_names_and_order(tmp_path, caplog):
    pictures.folder(tmp_path / "data", {"cat": 1, "dog": 1, "owl": 1})
    (tmp_path / "names.txt").write_text("owl\nhen\ncat\n")
    source = opened(tmp_path / "data", class_names=str(tmp_path / "names.txt"))
    assert source.class_names == ("owl", "hen", "cat")
    with caplog.at_level(logging.WARNING):
        assert found(source) == {
            "cat/000.png": "cat",
            "dog/000.png": "its class 'dog' is not in data.source.folder.class_names",
            "owl/000.png": "owl",
        }
    assert "no image in 1 class(es): hen" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("above", ["", "pets/"])
@pytest.mark.parametrize(
    ("train_name", "eval_name"),
    [("train", "val"), ("Training", "test1"), ("seg_train", "seg_test")],
)
def test_folders_of_splits_are_no_classes(tmp_path, kind, above, train_name, eval_name):
    members = {
        f"{above}{split}/{name}/1.png": packs.png()
        for split in (train_name, eval_name)
        for name in ("cat", "dog")
    }
    path = put(tmp_path / "data", members, kind)
    with pytest.raises(DataError, match=SPLITS) as caught:
        opened(path).index()
    first, second = f"{path}/{above}{train_name}", f"{path}/{above}{eval_name}"
    cure = f"set data.source.folder.path to {first} and data.source.folder.eval_path to {second}"
    assert cure in str(caught.value)
    for one in (first, second):  # each cure works, in archives as well
        assert found(opened(one)) == {"cat/1.png": "cat", "dog/1.png": "dog"}
        source = opened(one)
        image = source.read(source.index()[0]).image
        np.testing.assert_array_equal(image, pictures.noise(4, 4))


def test_a_single_train_folder_is_no_class_but_one_among_others_is(tmp_path):
    pictures.folder(tmp_path / "a", {"train": 1})
    with pytest.raises(DataError, match=f"set data.source.folder.path to {tmp_path}/a/train,"):
        opened(tmp_path / "a").index()
    packs.write(tmp_path / "a/annotations/1.json", b"{}")
    with pytest.raises(DataError, match=f"set data.source.folder.path to {tmp_path}/a/train,"):
        opened(tmp_path / "a").index()
    pictures.folder(tmp_path / "b", {"train": 1, "bus": 1, "car": 1})
    assert opened(tmp_path / "b").class_names == ("bus", "car", "train")
    assert len(opened(tmp_path / "b").index()) == 3
    pictures.folder(tmp_path / "c", {"train": 1, "test": 1})
    names = str(packs.write(tmp_path / "names", b"train\ntest\n"))
    assert found(opened(tmp_path / "c", class_names=names)).keys() == {
        "train/000.png",
        "test/000.png",
    }


def test_clips_in_folders_of_splits_are_refused(tmp_path):
    pictures.clips(tmp_path, {"train/run/a": 3, "test/run/b": 3})
    with pytest.raises(DataError, match="data.source.frames.eval_path to .*/test"):
        frames(tmp_path).index()
    source = opened(tmp_path / "train", "frames", frames=2, frame_stride=1, unlabelled=True)
    assert found(source) == {"run/a": "unlabelled"}


def test_a_folder_that_an_archive_does_not_hold(tmp_path):
    path = packs.write(tmp_path / "a.zip", packs.zipped({"x/cat/1.png": packs.png()}))
    with pytest.raises(DataError, match=r"a\.zip has no folder y; found x: correct"):
        opened(f"{path}/y").index()


def test_backslashes_in_a_zip_separate_folders(tmp_path):
    names = ("cat\\1.png", "dog\\x\\2.png", "..\\3.png")
    path = packs.write(tmp_path / "a.zip", packs.zipped(dict.fromkeys(names, packs.png())))
    assert found(opened(path)) == {
        "cat/1.png": "cat",
        "dog/x/2.png": "dog",
        "../3.png": OUTSIDE,
    }


def test_class_folders_that_are_numbers_are_sorted_as_numbers(tmp_path):
    pictures.folder(tmp_path, {"10": 1, "9": 1, "1": 1})
    assert opened(tmp_path).class_names == ("1", "9", "10")
    assert opened(tmp_path).index()[1].label == 2  # of folder 10


def test_class_folders_that_differ_by_unicode_form_are_one_class(tmp_path):
    pictures.folder(tmp_path / "a", {"caf\u00e9": 1, "cafe\u0301": 2, "b": 1})
    assert sorted(found(opened(tmp_path / "a")).values()) == ["b", *["caf\u00e9"] * 3]
    names = str(packs.write(tmp_path / "names", "cafe\u0301\nb\n".encode()))
    assert sorted(found(opened(tmp_path / "a", class_names=names)).values()) == [
        "b",
        *["caf\u00e9"] * 3,
    ]


def test_a_table_beside_flat_images_is_used_or_refused(tmp_path):
    pictures.save(tmp_path / "1.png", pictures.noise(4, 4))
    table = packs.write(tmp_path / "train.csv", b"image_id;x;y\n1.png;3;4\n")
    cure = rf"set data.source.folder.labels to {table}, .*or set data.unlabelled to true"
    with pytest.raises(DataError, match=cure):
        opened(tmp_path).index()
    assert found(opened(tmp_path, unlabelled=True))["1.png"] == "unlabelled"
    keys = {"labels": str(table), "label_column": "x"}
    source = opened(tmp_path, **keys)
    assert found(source) == {"1.png": "3"}
    table.write_text("image_id;x;y\n1.png;-1;4\n")
    assert found(opened(tmp_path, **keys)) == {"1.png": "-1"}
    assert (source.fields.label, source.fields.ignored) == ("x", ("y",))


def test_images_in_class_folders_are_one_class_if_asked(tmp_path):
    pictures.folder(tmp_path, {"a": 1, "b": 1})
    source = opened(tmp_path, unlabelled=True)
    assert source.class_names == ("unlabelled",)
    assert [entry.label for entry in source.index()] == [0, 0]
    with pytest.raises(DataError, match=r"data\.label_column .*labels is null"):
        opened(tmp_path, label_column="x")


def test_natural_order():
    names = ["f10", "f9", "f1", "f01", "g", "f", "10", "9", "f9b2", "f9b10"]
    ordered = ["9", "10", "f", "f01", "f1", "f9", "f9b2", "f9b10", "f10", "g"]
    assert sorted(names, key=folders.natural) == ordered
