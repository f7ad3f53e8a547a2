import errno
import os
import pickle
import tempfile
import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.data.errors import DataError, Unusable
from sid2core.data.storage import trees
from sid2core.data.storage.trees import ROOT, Item, LocalTree, RemoteTree
from tests.data import packs


def paths(tree, folders=False):
    return [item.path for item in trees.walk(tree, ROOT) if folders or not item.is_folder]


def problems(tree):
    return {item.path: item.problem for item in trees.walk(tree, ROOT) if not item.is_folder}


def read(tree, item):
    with tree.open(item.path, item.place) as file:
        return file.read()


@pytest.fixture
def memory():
    """An address that no other test uses."""
    root = f"memory://{uuid.uuid4().hex}"
    yield root
    files, path = fsspec.url_to_fs(root)
    if files.exists(path):
        files.rm(path, recursive=True)


def put(root, members):
    files, path = fsspec.url_to_fs(root)
    for name, content in members.items():
        files.pipe_file(f"{path}/{name}", content)


FILES = {"a/x/y/2": b"two", "a/1": b"one", "a/x/3": b"three", "b.txt": b"", "c d/é": b"four"}
HIDDEN = {".git/1": b"", "a/.x/1": b"", "a/.1": b"", "__MACOSX/a/1": b"", "a/Thumbs.db": b""}
PLACES = ["data", "data/a", "data/a/b", "data/.h/c", "data/z", "out", "out/x", "out/x/y", "other"]
FOUND = ["a/1", "a/x/3", "a/x/y/2", "b.txt", "c d/é"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_tree_is_walked_in_the_order_of_names_without_hidden_ones(tmp_path, memory, kind):
    if kind == "local":
        tree = LocalTree(str(tmp_path))
        for name, content in (FILES | HIDDEN).items():
            packs.write(tmp_path / name, content)
    else:
        tree = RemoteTree(memory)
        put(memory, FILES | HIDDEN)
    assert paths(tree) == FOUND
    assert paths(tree, folders=True) == ["a", "a/1", "a/x", *FOUND[1:2], "a/x/y", *FOUND[2:4],
                                         "c d", *FOUND[4:]]  # fmt: skip
    sent = pickle.loads(pickle.dumps(tree))
    assert {
        item.path: read(sent, item) for item in trees.walk(tree, ROOT) if not item.is_folder
    } == FILES
    assert [item.path for item in tree.scan(Item("a/x", is_folder=True))] == ["a/x/3", "a/x/y"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_the_stamp_follows_names_sizes_and_times(tmp_path, memory, kind):
    tree = LocalTree(str(tmp_path)) if kind == "local" else RemoteTree(memory)

    def write(name, content):
        if kind == "local":
            packs.write(tmp_path / name, content)
        else:
            put(memory, {name: content})

    write("a/1", b"one")
    stamps = [tree.stamp()]
    assert tree.stamp() == stamps[0]
    write("a/2", b"")
    stamps.append(tree.stamp())
    write("a/1", b"longer")
    stamps.append(tree.stamp())
    if kind == "local":
        (tmp_path / "empty").mkdir()
        stamps.append(tree.stamp())
        os.utime(tmp_path / "a/1", ns=(1, 1))
        stamps.append(tree.stamp())
        (tmp_path / "a/3").symlink_to("none")
        stamps.append(tree.stamp())
        assert len(LocalTree(str(tmp_path)).stamp()) == 64
    assert len(set(stamps)) == len(stamps)


def test_links_are_followed_once_but_not_back(tmp_path):
    packs.write(tmp_path / "data/a/b/1", b"one")
    packs.write(tmp_path / "elsewhere/x/2", b"two")
    data = tmp_path / "data"
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "again").symlink_to(data / "a")
    (data / "more").symlink_to(tmp_path / "elsewhere")
    (data / "within").symlink_to(tmp_path / "elsewhere/x")
    (data / "a/b/back").symlink_to(data / "a")
    (data / "a/b/here").symlink_to(".")
    (data / "a/up").symlink_to(tmp_path)
    (tmp_path / "elsewhere/root").symlink_to(data)
    (data / "broken").symlink_to(tmp_path / "none")
    (data / "circle").symlink_to(data / "circle")
    tree = LocalTree(str(data))
    found = problems(tree)
    back, anyway = "a link to a folder that it lies in", "a link to a folder that is read anyway"
    assert found == {
        "a/b/1": None,
        "a/b/back": back,
        "a/b/here": back,
        "a/up": back,
        "again": anyway,
        "broken": None,
        "circle": None,
        "linked/root": back,
        "linked/x/2": None,
        "more": anyway,
        "within": anyway,
    }
    assert read(tree, Item("linked/x/2")) == b"two"
    for name, reason in (("broken", "No such file"), ("circle", "Too many levels")):
        with pytest.raises(Unusable, match=reason):
            read(tree, Item(name))


def test_a_folder_behind_a_link_may_have_been_read_already(tmp_path):
    packs.write(tmp_path / "elsewhere/x/1", b"one")
    packs.write(tmp_path / "elsewhere/2", b"two")
    packs.write(tmp_path / "data/.store/y/3", b"three")
    data = tmp_path / "data"
    (data / "a").symlink_to(tmp_path / "elsewhere/x")
    (data / "b").symlink_to(tmp_path / "elsewhere")
    (data / "c").symlink_to(data / ".store/y")  # in the root, but under a hidden name
    (data / "d").symlink_to(data / "c")
    assert problems(LocalTree(str(data))) == {
        "a/1": None,
        "b/2": None,
        "b/x": "a folder that a link led to before",
        "c/3": None,
        "d": "a link to a folder that is read anyway",
    }


def test_a_walk_takes_as_long_as_there_are_folders_and_links(tmp_path, monkeypatch):
    """Each of nine folders links to all others: as paths without a circle, a million."""
    for number in range(9):
        packs.write(tmp_path / f"c{number}/1", b"one")
        for other in set(range(9)) - {number}:
            (tmp_path / f"c{number}/l{other}").symlink_to(tmp_path / f"c{other}")
    scanned, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(path) or scandir(path))
    found = problems(LocalTree(str(tmp_path)))
    assert sum(problem is None for problem in found.values()) == 9
    assert len(found) == 9 + 9 * 8
    assert len(scanned) == 2 * 10


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    links=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["a", "l", "m", "z"]),
                  st.sampled_from(PLACES)),
        max_size=8,
        unique_by=lambda link: link[:2],
    )
)  # fmt: skip
def test_whatever_links_there_are_no_file_is_read_twice_and_none_of_the_roots_is_lost(links):
    with tempfile.TemporaryDirectory() as name:
        top = Path(name).resolve()
        for place in PLACES:
            packs.write(top / place / "file", b"")
        for folder, link, target in links:
            (top / folder / f"{link}-link").symlink_to(top / target)
        found = problems(LocalTree(str(top / "data")))
        reals = [os.path.realpath(top / "data" / path) for path, why in found.items() if not why]
        assert len(reals) == len(set(reals))
        own = [place for place in PLACES if place.startswith("data") and "." not in place]
        assert {f"{top}/{place}/file" for place in own} <= set(reals)
        for path, why in found.items():
            if why and why != "a link to a folder that it lies in":
                assert os.path.realpath(top / "data" / path / "file") in reals


def test_names_that_are_not_utf8_are_found(tmp_path):
    packs.write(tmp_path / "a", b"one")
    os.rename(tmp_path / "a", os.fsencode(tmp_path) + b"/\xff")
    tree = LocalTree(str(tmp_path))
    assert paths(tree) == ["\udcff"]
    assert read(tree, Item("\udcff")) == b"one"
    assert tree.stamp()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_opened(tmp_path, make):
    make(tmp_path / "a.png")
    with pytest.raises(Unusable, match="not a regular file"):
        read(LocalTree(str(tmp_path)), Item("a.png"))


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EACCES, Unusable), (errno.EIO, DataError), (errno.ESTALE, DataError)],
)
@pytest.mark.parametrize("where", ["open", "read"])
def test_a_file_is_to_blame_for_its_own_faults_alone(tmp_path, monkeypatch, number, error, where):
    packs.write(tmp_path / "a", b"one")
    tree = LocalTree(str(tmp_path))

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    if where == "open":
        monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(error, match=os.strerror(number)) as caught, tree.open("a", None):
        fail()
    named = f"reading {tmp_path}/a failed: " in str(caught.value)
    assert named == (error is DataError)
    assert ("see that its disk is well" in str(caught.value)) == named


def test_a_folder_that_cannot_be_listed_stops(tmp_path, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(DataError, match=r"cannot be listed \(Permission denied\); see to its perm"):
        paths(LocalTree(str(tmp_path)))


def test_remote_errors_are_the_files_own_or_the_networks(memory, monkeypatch):
    put(memory, {"a/1": b"one"})
    tree = RemoteTree(memory)
    assert read(tree, Item("a/1", None)) == read(tree, Item("a/1", 3)) == b"one"
    for size in (None, 3):
        with pytest.raises(Unusable, match="No such file or directory"):
            read(tree, Item("a/2", size))

    def fail(*args, **kwargs):
        raise RuntimeError("503 Slow\nDown")

    for name in ("cat_file", "open", "ls"):
        monkeypatch.setattr(fsspec.url_to_fs(memory)[0].__class__, name, fail)
    for size in (None, 3):
        with pytest.raises(DataError, match="/a/1 failed: 503 Slow Down; see that its network and"):
            read(tree, Item("a/1", size))
    with pytest.raises(DataError, match="503 Slow Down"):
        paths(tree)


def test_no_more_than_the_limit_is_read_of_a_remote_file(memory, monkeypatch):
    put(memory, {"a": b"0123456789"})
    monkeypatch.setattr("sid2core.data.storage.paths.LIMIT", 9)
    for size in (None, 10):
        with pytest.raises(Unusable, match="10 bytes; pictures have at most 9"):
            read(RemoteTree(memory), Item("a", size))
