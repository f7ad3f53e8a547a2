"""What a change of the source's files does to its fingerprint; no file is opened for it."""

import os
import shutil
import time

import fsspec
import pytest

from sid2core import config
from sid2core.data.errors import DataError
from sid2core.data.prepare import fingerprint
from tests import tiny

SIZE = {"image_size": 8, "channels": 3}
PACKED = {"parquet": "0.parquet", "webdataset": "0.tar"}


@pytest.fixture
def pets(tmp_path):
    """Two class folders with captions and metadata; contents are never looked at."""
    root = tmp_path / "pets"
    for name in ("cat/1.png", "cat/1.txt", "dog/1.png", "dog/1.txt", "metadata.jsonl"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n", encoding="utf-8")
    return root


def of(path, name="folder", **keys):
    return fingerprint.stamps(
        tiny.params(data=tiny.source(name, path=str(path), **keys, **SIZE)).data
    )


def edit(path):
    """Other content of the same size."""
    path.write_text(path.read_text(encoding="utf-8").upper(), encoding="utf-8")
    later(path)


def later(path):
    """Another modification time, however coarse the clock of the file system."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))


CHANGES = {
    "a caption": lambda root: edit(root / "cat/1.txt"),
    "metadata": lambda root: edit(root / "metadata.jsonl"),
    "an image": lambda root: edit(root / "dog/1.png"),
    "only a time": lambda root: later(root / "dog/1.png"),
    "an image added": lambda root: shutil.copy2(root / "dog/1.png", root / "dog/2.png"),
    "a caption removed": lambda root: (root / "dog/1.txt").unlink(),
    "a file renamed": lambda root: (root / "dog/1.png").rename(root / "dog/0.png"),
    "a class renamed": lambda root: (root / "dog").rename(root / "wolf"),
    "an empty class": lambda root: (root / "cow").mkdir(),
    "a link": lambda root: (root / "dog/3.png").symlink_to(root / "cat/1.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(pets, change):
    before = of(pets)
    CHANGES[change](pets)
    assert of(pets) != before


def test_without_a_change_it_stays_also_for_a_copy_with_its_times(pets, tmp_path):
    before = of(pets)
    (pets / "cat/.hidden").touch()
    (pets / "cat/Thumbs.db").touch()
    assert of(pets) == before
    shutil.copytree(pets, tmp_path / "copy")
    assert of(tmp_path / "copy") == before


def test_what_a_link_leads_to_is_seen(pets, tmp_path):
    (tmp_path / "elsewhere.txt").write_text("a cat", encoding="utf-8")
    (pets / "cat/2.txt").symlink_to(tmp_path / "elsewhere.txt")
    before = of(pets)
    edit(tmp_path / "elsewhere.txt")
    assert of(pets) != before


@pytest.mark.parametrize("name", PACKED)
def test_shards_are_seen(tmp_path, name):
    (tmp_path / "shards").mkdir()
    file = tmp_path / "shards" / PACKED[name]
    file.write_text("a", encoding="utf-8")
    before = of(file.parent, name)
    edit(file)
    edited = of(file.parent, name)
    shutil.copy2(file, file.with_stem("1"))
    assert len({*before, *edited, *of(file.parent, name)}) == 3


def test_both_splits_and_the_files_beside_them_count(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "eval")
    labels = tmp_path / "labels.csv"
    labels.write_text("name,class\n", encoding="utf-8")
    keys = {"eval_path": str(tmp_path / "eval"), "labels": str(labels)}
    train, held_out = of(pets, **keys)
    edit(tmp_path / "eval/cat/1.txt")
    assert of(pets, **keys)[0] == train
    assert of(pets, **keys)[1] != held_out
    edit(labels)
    assert of(pets, **keys)[0] != train


def test_an_address_counts_by_what_its_store_says():
    files = fsspec.filesystem("memory")
    files.pipe("/watched/cat/1.png", b"one")
    before = of("memory://watched")
    assert of("memory://watched") == before
    time.sleep(0.001)  # its times are in microseconds
    files.pipe("/watched/cat/1.png", b"two")
    assert of("memory://watched") != before


def test_ten_thousand_files_take_a_moment(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number}.png").touch()
    since = time.process_time()
    of(tmp_path)
    assert time.process_time() - since < 3, "it takes about 0.1 s"


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_that_is_not_there_or_empty_is_an_error(tmp_path, empty):
    folder = tmp_path / "disk"
    if empty:
        folder.mkdir()
    expected = "is an empty folder; expected the data" if empty else "not found"
    with pytest.raises(DataError, match=rf"data\.source\.folder\.path {folder} {expected}"):
        of(folder)


def test_a_folder_without_permission_is_an_error(pets, monkeypatch):
    real = os.scandir

    def denied(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)  # root may read everything
    with pytest.raises(DataError, match=r"dog cannot be listed \(Permission denied\)"):
        of(pets)


def test_the_sources_without_files_are_the_built_in_ones():
    without = {
        name for name in config.SOURCES if "path" not in config.SOURCES[name].schema.model_fields
    }
    assert set(fingerprint.BUILT_IN) == without


@pytest.mark.parametrize("name", [*fingerprint.BUILT_IN, "folder", "mine"])
def test_the_name_is_read_without_the_schema(tmp_path, name):
    file = tmp_path / "params.yaml"
    file.write_text(f"data: {{source: {{name: {name}}}}}\n", encoding="utf-8")
    assert fingerprint.built_in(file) == (name if name in fingerprint.BUILT_IN else None)


@pytest.mark.parametrize("text", ["", "[", "data: 1", "data: {source: {name: [1]}}", "\0"])
def test_a_wrong_file_is_left_to_the_schema(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert fingerprint.built_in(tmp_path / "params.yaml") is None
