import functools
import http.server
import socket
import threading
import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from sid2core.data.errors import DataError
from sid2core.data.sources import opening
from sid2core.data.storage import paths
from sid2core.data.storage.archives import ZipTree
from sid2core.data.storage.trees import ROOT
from tests import tiny
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
    parts = [paths.part(path, *span) for span in ((0, 3), (8, 9), (20, 5), (3, 0), (3, -1))]
    assert parts == [b"012", b"89", b"", b"", b""]
    with paths.opened(path) as file:
        file.seek(4)
        assert file.read(2) == b"45"
    assert paths.size(path) == 10
    assert paths.exists(path)
    assert not paths.exists(f"{path}x")
    assert paths.text(path, "data.labels") == "0123456789"


def test_a_mark_changes_with_the_file(path):
    before = paths.mark(path)
    assert paths.mark(path) == before
    with fsspec.open(path, "wb") as file:
        file.write(b"other")
    assert paths.mark(path) != before


@pytest.mark.parametrize("ask", [paths.mark, paths.size, lambda path: paths.part(path, 0, 1)])
def test_what_is_not_there_stops(path, ask):
    with pytest.raises(DataError, match=f"reading {path}x failed: "):
        ask(f"{path}x")
    with pytest.raises(DataError, match="failed: "), paths.opened(f"{path}x"):
        pass


def test_a_server_that_gives_no_parts_is_reported(monkeypatch):
    address = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(address, b"0123456789")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *args, **kwargs: b"0123456789")
    whole = "its server gives files as a whole only; download it and set its path"
    with pytest.raises(DataError, match=whole):
        paths.part(address, 2, 3)
    monkeypatch.setattr(MemoryFile, "seekable", lambda self: False)
    with pytest.raises(DataError, match=whole), paths.opened(address):
        pass


class Quiet(http.server.SimpleHTTPRequestHandler):
    """It gives files as a whole only, and 403 for those that are called so."""

    def send_head(self):
        if self.path.endswith("403"):
            return self.send_error(403)
        return super().send_head()

    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path):
    """The address at which a server of this machine gives the files of ``tmp_path``."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_lists_what_is_there(served, tmp_path):
    packs.write(tmp_path / "a", b"one")
    assert paths.exists(f"{served}/a")
    assert not paths.exists(f"{served}/b")
    with pytest.raises(DataError, match=f"reading {served}/403 failed: 403, .*Forbidden"):
        paths.exists(f"{served}/403")


def test_a_zip_behind_a_server_that_gives_no_parts_is_reported(served, tmp_path):
    packs.write(tmp_path / "a.zip", packs.zipped({"a/1": b"one" * 9}))
    whole = (
        rf"{served}/a\.zip: its server gives files as a whole only; download it and set its path"
    )
    with pytest.raises(DataError, match=whole):
        ZipTree(f"{served}/a.zip").scan(ROOT)
    packs.write(tmp_path / "b.zip", b"")
    with pytest.raises(DataError, match=whole.replace("a", "b", 1)):
        ZipTree(f"{served}/b.zip").scan(ROOT)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder", "a"),
        ("folder", "a.zip"),
        ("webdataset", "a-{0..1}.tar"),
        ("webdataset", "a-*.tar"),
        ("parquet", "a.parquet"),
        ("arrays", "a.npz"),
    ],
)
def test_a_refused_connection_is_reported_and_not_taken_for_absence(source, name):
    with socket.socket() as taken:  # bound, but no one listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/{name}"
        data = tiny.source(source, path=address, image_size=4, channels=3)
        refused = (
            r"reading http://127.0.0.1:\d+/a.* failed: Connection refused; see that its network"
        )
        with pytest.raises(DataError, match=refused):
            opening.opened(tiny.params(data=data).data)[0].index()


def test_a_package_that_is_not_there_is_named(monkeypatch):
    def fail(path):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", fail)
    with pytest.raises(
        DataError, match="s3://a/b cannot be opened: Install s3fs.*pip install s3fs"
    ):
        paths.exists("s3://a/b")


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
    assert paths.join(root, path) == joined


def test_the_same_file_by_two_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.same("a/../b", f"{tmp_path}/b")
    assert paths.same("s3://a/b", "s3://a/b")
    assert not paths.same("s3://a/b", "s3://a/c")
