import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from sid2core.data import places
from sid2core.data.errors import DataError
from tests.data import packs


@pytest.fixture(params=["local", "memory"])
def path(request, tmp_path):
    """A file of ten bytes, on disk or behind an address."""
    if request.param == "local":
        return str(packs.write(tmp_path / "a", b"0123456789"))
    address = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(address, b"0123456789")
    return address


def test_parts_of_a_file(path):
    parts = [places.part(path, *span) for span in ((0, 3), (8, 9), (20, 5), (3, 0), (3, -1))]
    assert parts == [b"012", b"89", b"", b"", b""]
    with places.opened(path) as file:
        file.seek(4)
        assert file.read(2) == b"45"
    assert places.size(path) == 10
    assert places.exists(path)
    assert not places.exists(f"{path}x")
    assert places.text(path, "data.labels") == "0123456789"


def test_a_mark_changes_with_the_file(path):
    before = places.mark(path)
    assert places.mark(path) == before
    with fsspec.open(path, "wb") as file:
        file.write(b"other")
    assert places.mark(path) != before


@pytest.mark.parametrize("ask", [places.mark, places.size, lambda path: places.part(path, 0, 1)])
def test_what_is_not_there_stops(path, ask):
    with pytest.raises(DataError, match=f"reading {path}x failed: "):
        ask(f"{path}x")
    with pytest.raises(DataError, match="failed: "), places.opened(f"{path}x"):
        pass


def test_a_server_that_gives_no_parts_is_told(monkeypatch):
    address = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(address, b"0123456789")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *args, **kwargs: b"0123456789")
    whole = "its server gives files as a whole only; download it and set its path"
    with pytest.raises(DataError, match=whole):
        places.part(address, 2, 3)
    monkeypatch.setattr(MemoryFile, "seekable", lambda self: False)
    with pytest.raises(DataError, match=whole), places.opened(address):
        pass


def test_a_package_that_is_not_there_is_named(monkeypatch):
    def fail(path):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", fail)
    with pytest.raises(
        DataError, match="s3://a/b cannot be opened: Install s3fs.*pip install s3fs"
    ):
        places.exists("s3://a/b")


@pytest.mark.parametrize(
    ("root", "path", "joined"),
    [
        ("/a", "b", "/a/b"),
        ("/a/", "b/c", "/a/b/c"),
        ("s3://a", "b", "s3://a/b"),
        ("", "b", "b"),
        ("/a", "", "/a"),
    ],
)
def test_paths_are_joined(root, path, joined):
    assert places.join(root, path) == joined


def test_the_same_file_by_two_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.same("a/../b", f"{tmp_path}/b")
    assert places.same("s3://a/b", "s3://a/b")
    assert not places.same("s3://a/b", "s3://a/c")
