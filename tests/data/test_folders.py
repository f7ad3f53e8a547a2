import logging
import os

import numpy as np
import pytest

from sid2core.data import folders
from sid2core.data.errors import DataError, Unusable
from sid2core.data.folders import Folder, Frames, Root
from sid2core.data.records import Entry
from tests.data import pictures


def folder(path, size=4, channels=3):
    return Folder(Root(path, "data.path"), size, channels)


def frames(path, count=2, stride=1, channels=1):
    return Frames(Root(path, "data.path"), 4, channels, count, stride)


def keys(source):
    return [entry.key for entry in source.index()]


def test_classes_are_the_first_level_in_sorted_order(tmp_path):
    pictures.folder(tmp_path, {"n02": 1, "n10": 2, "a b": 1, "B": 1})
    source = folder(tmp_path)
    assert source.class_names == ("B", "a b", "n02", "n10")
    found = [(entry.key, entry.label) for entry in source.index()]
    assert found == [
        ("B/000.png", 0),
        ("a b/000.png", 1),
        ("n02/000.png", 2),
        ("n10/000.png", 3),
        ("n10/001.png", 3),
    ]
    assert source.shape == (4, 4, 3)
    assert source.decoding["crop"] == "adm"


def test_folders_may_nest_and_hidden_files_are_no_data(tmp_path):
    for name in ("a/x/y/2.png", "a/1.png", "a/x/3.png", ".git/1.png", "a/.x/1.png", "a/.1.png"):
        pictures.save(tmp_path / name, pictures.noise(4, 4))
    source = folder(tmp_path)
    assert source.class_names == ("a",)
    assert keys(source) == ["a/1.png", "a/x/3.png", "a/x/y/2.png"]
    np.testing.assert_array_equal(source.image(Entry("a/x/3.png", 0)), pictures.noise(4, 4))


def test_extensions_in_any_case_are_images_and_others_are_counted(tmp_path, caplog):
    images = ["a.JPG", "b.jpeg", "c.Png", "d.webp", "e.bmp", "f.GIF"]
    for name in [*images, "notes.txt", "more.TXT", "g.tiff", "README"]:
        (tmp_path / "class").mkdir(exist_ok=True)
        (tmp_path / "class" / name).touch()
    (tmp_path / "loose.png").touch()
    with caplog.at_level(logging.WARNING):
        assert keys(folder(tmp_path)) == [f"class/{name}" for name in images]
    assert "5 file(s) under" in caplog.text
    assert "2 × .txt" in caplog.text
    assert "1 × .png" in caplog.text


def test_links_are_followed_and_broken_ones_wait_for_their_reject(tmp_path):
    pictures.folder(tmp_path / "elsewhere", {"x": 2})
    (tmp_path / "data/broken").mkdir(parents=True)
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere/x")
    (tmp_path / "data/broken/1.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "data/broken/2.png").symlink_to(tmp_path / "data/broken/2.png")
    source = folder(tmp_path / "data")
    names = ["broken/1.png", "broken/2.png", "linked/000.png", "linked/001.png"]
    assert keys(source) == names
    assert source.image(Entry("linked/000.png", 1)).shape == (4, 4, 3)
    with pytest.raises(Unusable, match="No such file"):
        source.image(Entry("broken/1.png", 0))


def test_a_link_that_leads_back_is_named(tmp_path):
    pictures.folder(tmp_path, {"a/b": 1})
    (tmp_path / "a/b/back").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="a/b/back is a link to a folder that it lies in; remove"):
        keys(folder(tmp_path))


def test_names_that_are_not_utf8(tmp_path):
    pictures.folder(tmp_path, {"a": 1})
    os.rename(tmp_path / "a/000.png", os.fsencode(tmp_path) + b"/a/\xff.png")
    assert keys(folder(tmp_path)) == ["a/\udcff.png"]
    os.rename(tmp_path / "a", os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(DataError, match="not UTF-8; rename it"):
        keys(folder(tmp_path))


@pytest.mark.parametrize("make", [folder, frames])
def test_a_missing_path_tells_the_layout(tmp_path, make):
    with pytest.raises(DataError) as caught:
        keys(make(tmp_path / "none"))
    wanted = "<class>/<image>" if make is folder else "<class>/<clip>/<frame image>"
    message = str(caught.value)
    assert message.startswith(f"data.path {tmp_path}/none not found from ")
    assert f"expected {tmp_path}/none/{wanted}: set data.path to such a folder" in message


def test_a_file_instead_of_a_folder_asks_to_be_unpacked(tmp_path):
    (tmp_path / "data.zip").touch()
    with pytest.raises(DataError, match=r"data\.zip is no folder; expected .*: unpack it"):
        keys(folder(tmp_path / "data.zip"))


def test_images_without_a_class_folder_are_told_where_to_go(tmp_path):
    with pytest.raises(DataError, match=r"holds 0 file\(s\) and no folder"):
        keys(folder(tmp_path))
    pictures.save(tmp_path / "1.png", pictures.noise(4, 4))
    message = r"holds 1 file\(s\) and no folder; expected .*single class need a folder as well"
    with pytest.raises(DataError, match=message):
        keys(folder(tmp_path))


def test_class_folders_without_images_are_told_what_was_found(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="holds no <class>/<image>; found no file; images are .bmp"):
        keys(folder(tmp_path))
    (tmp_path / "a/1.tiff").touch()
    with pytest.raises(DataError, match=r"found 1 × \.tiff; .*: convert them"):
        keys(folder(tmp_path))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    pictures.folder(tmp_path, {"a": 1})
    source = folder(tmp_path)
    assert source.class_names == ("a",)

    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(DataError, match=r"cannot be listed \(Permission denied\); see to its perm"):
        keys(source)


def test_frames_come_in_natural_order_at_their_stride(tmp_path):
    pictures.clips(tmp_path, {"run/a": 12, "run/b": 4, "jump/c": 10})
    source = frames(tmp_path, count=4, stride=3)
    assert source.class_names == ("jump", "run")
    assert source.index() == [Entry("jump/c", 0), Entry("run/a", 1), Entry("run/b", 1)]
    assert source.shape == (4, 4, 4, 1)
    for key in ("run/a", "jump/c"):  # 10 frames are just enough
        clip = source.image(Entry(key, 0))
        assert clip.shape == source.shape
        assert clip[:, 0, 0, 0].tolist() == [0, 3, 6, 9]
    (tmp_path / "run/a/.hidden.png").touch()
    (tmp_path / "run/a/clip.mp4").touch()
    np.testing.assert_array_equal(source.image(Entry("run/a", 1)), clip)


def test_a_clip_of_too_few_or_broken_frames_is_unusable(tmp_path):
    pictures.clips(tmp_path, {"run/a": 9, "run/b": 10})
    source = frames(tmp_path, count=4, stride=3)
    with pytest.raises(Unusable, match=r"9 frame\(s\); 4 at stride 3 need 10"):
        source.image(Entry("run/a", 0))
    (tmp_path / "run/b/6.png").write_bytes(b"")
    with pytest.raises(Unusable, match=r"frame 6\.png: no image of a known format"):
        source.image(Entry("run/b", 0))
    pictures.clips(tmp_path, {"run/b": 10})
    (tmp_path / "run/b/5.png").write_bytes(b"")  # not one of those that are read
    assert source.image(Entry("run/b", 0))[:, 0, 0, 0].tolist() == [0, 3, 6, 9]


def test_single_images_where_clips_belong_are_told_of_the_other_source(tmp_path):
    pictures.folder(tmp_path, {"a": 3})
    with pytest.raises(DataError, match=r"found 3 × \.png; .*set data.source to folder"):
        keys(frames(tmp_path))


def test_natural_order():
    names = ["f10", "f9", "f1", "f01", "g", "f", "10", "9", "f9b2", "f9b10"]
    ordered = ["9", "10", "f", "f01", "f1", "f9", "f9b2", "f9b10", "f10", "g"]
    assert sorted(names, key=folders.natural) == ordered
