import uuid

import fsspec
import pytest

from sid2core.data.errors import DataError
from sid2core.data.storage import globbing
from tests.data import packs


def names(path):
    return [file.name for file in globbing.matching(str(path), "data.path", ".tar")]


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    """A folder of six files, on disk or behind an address."""
    files = ["a-00.tar", "a-01.tar", "a-10.tar", "b.tar", "notes.txt", "x/c.tar"]
    if request.param == "local":
        for name in files:
            packs.write(tmp_path / name, name.encode())
        return str(tmp_path)
    root = f"memory://{uuid.uuid4().hex}"
    for name in files:
        fsspec.filesystem("memory").pipe_file(f"{root}/{name}", name.encode())
    return root


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/b.tar", ["b.tar"]),
        ("/a-*.tar", ["a-00.tar", "a-01.tar", "a-10.tar"]),
        ("/a-{00..01}.tar", ["a-00.tar", "a-01.tar"]),
        ("/{b,a-10}.tar", ["a-10.tar", "b.tar"]),
        ("/a-{0,1}{0..0}.tar", ["a-00.tar", "a-10.tar"]),
        ("/a-?[0].tar", ["a-00.tar", "a-10.tar"]),
        ("/{b,x/c}.tar", ["b.tar", "x/c.tar"]),
        ("/x/c.tar", ["c.tar"]),
    ],
)
def test_a_pattern_names_files_below_their_common_folder(root, pattern, found):
    assert names(root + pattern) == found
    first = globbing.matching(root + pattern, "data.path", ".tar")[0]
    with fsspec.open(first.path) as file:
        assert file.read().decode().endswith(first.name)
    assert first.problem is None


def test_a_folder_is_searched_through_and_other_files_are_reported(root):
    found = {file.name: file.problem for file in globbing.matching(root, "data.path", ".tar")}
    assert list(found) == ["a-00.tar", "a-01.tar", "a-10.tar", "b.tar", "notes.txt", "x/c.tar"]
    assert {name: problem for name, problem in found.items() if problem} == {
        "notes.txt": "not a .tar file"
    }


@pytest.mark.parametrize(
    "pattern", ["/none", "/none.tar", "/a-{00..02}.tar", "/z*.tar", "/{b,z}.tar"]
)
def test_what_is_not_there_is_named(root, pattern):
    missing = {"/a-{00..02}.tar": "/a-02.tar", "/{b,z}.tar": "/z.tar"}.get(pattern, pattern)
    with pytest.raises(DataError) as caught:
        names(root + pattern)
    assert str(caught.value).startswith(f"data.path {root}{missing} not found")
    assert str(caught.value).endswith(": set data.path")


def test_a_name_with_brackets_that_is_there_is_no_pattern(tmp_path):
    packs.write(tmp_path / "a[1]/{b}.tar", b"")
    assert names(tmp_path / "a[1]") == ["{b}.tar"]
    assert names(tmp_path / "a[1]/{b}.tar") == ["{b}.tar"]


@pytest.mark.parametrize("braces", ["{0..999999999999}", "{0..999}{0..999}"])
def test_braces_that_stand_for_too_many_files_are_refused(braces):
    with pytest.raises(DataError, match=r"stands for \d+ files; expected at most 100000"):
        globbing.braced(braces, "data.path")


def test_an_unknown_protocol_names_what_to_install():
    with pytest.raises(DataError, match="nosuch://x cannot be opened: .*install what its protocol"):
        names("nosuch://x")
