"""A file is hashed once, and again as soon as it may have changed."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from sid2core.pipeline import artifact, verified
from sid2core.pipeline.artifact import ArtifactError
from tests import tiny


@pytest.fixture
def made(tmp_path, monkeypatch):
    """An artifact with one file, which was checked."""
    monkeypatch.chdir(tmp_path)
    for name in ("SID2_WORK", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(verified, "_SETTLED_NS", 0)
    with artifact.create("first", {}) as draft:
        draft.path("data.bin").write_bytes(bytes(range(200)))
    found = artifact.load("first")
    found.path("data.bin")
    return found


@pytest.fixture
def hashed(made, monkeypatch):
    """The names of the files that are hashed from now on."""
    names, sha256 = [], verified.sha256
    monkeypatch.setattr(verified, "sha256", lambda path: names.append(path.name) or sha256(path))
    return names


def flip(path):
    """Change one byte where it is; size and time of modification stay as they were."""
    before = path.stat()
    time.sleep(0.02)  # clocks of file systems may be as coarse
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def stamps():
    found = (verified.places.work() / "verified").glob("*/*.json")
    return [path for path in found if path.name != "folder.json"]


def test_a_file_is_hashed_once(made, hashed):
    for _ in range(3):
        artifact.load("first").path("data.bin")
    assert hashed == []
    assert len(stamps()) == 1


def test_loading_hashes_nothing(made, hashed):
    shutil.rmtree(".sid2")
    artifact.load("first")
    assert hashed == []


def test_another_process_hashes_nothing(made):
    program = (
        "from sid2core.pipeline import artifact, verified\n"
        "verified.sha256 = None\n"
        "artifact.load('first').path('data.bin')\n"
    )
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(tiny.ROOT)}, check=True)


def test_a_flipped_byte_is_found_though_size_and_time_are_the_same(made):
    flip(made.unchecked("data.bin"))
    with pytest.raises(ArtifactError, match=r"data\.bin has SHA-256"):
        artifact.load("first").path("data.bin")


def test_a_damaged_file_is_never_remembered(made):
    flip(made.unchecked("data.bin"))
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"data\.bin has SHA-256"):
            made.path("data.bin")


def test_an_old_stamp_that_is_put_back_does_not_count(made):
    (stamp,) = stamps()
    before = stamp.read_bytes()
    path = made.unchecked("data.bin")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    flip(path)
    stamp.write_bytes(before)
    with pytest.raises(ArtifactError, match=r"data\.bin has SHA-256"):
        made.path("data.bin")


def test_a_replaced_file_is_hashed_again(made, hashed):
    """As DVC does when it checks out the same content."""
    path = made.unchecked("data.bin")
    shutil.copy2(path, "copy")
    os.replace("copy", path)
    made.path("data.bin")
    made.path("data.bin")
    assert hashed == ["data.bin"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null"])
def test_a_damaged_stamp_means_that_the_file_is_hashed(made, hashed, content):
    (stamp,) = stamps()
    stamp.write_bytes(content)
    made.path("data.bin")
    assert hashed == ["data.bin"]
    assert json.loads(stamp.read_text())["size"] == 200


def test_a_file_that_has_just_changed_is_not_remembered(made, hashed, monkeypatch):
    monkeypatch.setattr(verified, "_SETTLED_NS", 10**12)
    shutil.rmtree(".sid2")
    made.path("data.bin")
    made.path("data.bin")
    assert hashed == ["data.bin", "data.bin"]


def test_stamps_of_folders_that_are_gone_are_removed(made, tmp_path):
    verified.prune()
    assert len(stamps()) == 1
    shutil.rmtree(made.folder)
    verified.prune()
    assert not list((tmp_path / ".sid2" / "verified").iterdir())


def test_where_no_stamp_can_be_written_the_file_is_read_all_the_same(made, hashed):
    """As in the project of another user, here for root as well: a file is where the folder goes."""
    shutil.rmtree(".sid2")
    (made.folder.parent.parent / ".sid2").touch()
    for _ in range(2):
        assert made.path("data.bin").stat().st_size == 200
    assert hashed == ["data.bin"] * 2
