import json
import math
import os

import numpy as np
import pandas as pd
import pytest

from sid2core import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


WRITERS = {
    "bytes": lambda path, value: atomic.write_bytes(path, bytes([value])),
    "text": lambda path, value: atomic.write_text(path, f"{value}\n"),
    "json": lambda path, value: atomic.write_json(path, {"value": value}),
    "csv": lambda path, value: atomic.write_csv(path, pd.DataFrame({"value": [value]})),
    "npy": lambda path, value: atomic.write_npy(path, np.full((2, 2), value)),
    "npz": lambda path, value: atomic.write_npz(path, {"value": np.array(value)}),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_is_replaced_whole_and_nothing_else_stays(tmp_path, write):
    path = tmp_path / "deep" / "er" / "file"
    write(path, 1)
    first = path.read_bytes()
    write(path, 2)
    assert path.read_bytes() != first
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, write):
    path = tmp_path / "file"
    write(path, 1)
    first = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
            write(path, 2)
    assert path.read_bytes() == first
    assert names(tmp_path) == ["file"]


def test_values_come_back(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"loss": 0.5, "best": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"loss": 0.5, "best": None}
    arrays = {"images": np.arange(6, dtype=np.uint8).reshape(2, 3), "seconds": np.array([0.25])}
    for compressed in (False, True):
        atomic.write_npz(tmp_path / "a.npz", arrays, compressed=compressed)
        with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
            assert {name: file[name].tolist() for name in file.files} == {
                name: array.tolist() for name, array in arrays.items()
            }
    atomic.write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1.23456]}), float_format="%.2f")
    assert (tmp_path / "a.csv").read_bytes() == b"x\n1.23\n"


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_an_array_has_the_bytes_of_numpy(tmp_path, shape, dtype):
    array = np.arange(math.prod(shape), dtype=dtype).reshape(shape)
    np.save(tmp_path / "theirs.npy", array)
    atomic.write_npy(tmp_path / "ours.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_text_has_line_feeds_on_every_system(tmp_path):
    atomic.write_text(tmp_path / "a.csv", "step,loss\n1,2\n")
    assert (tmp_path / "a.csv").read_bytes() == b"step,loss\n1,2\n"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_with_no_number_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "a.json", {"loss": value})
    assert names(tmp_path) == []


def test_pickles_are_refused(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        atomic.write_npz(tmp_path / "a.npz", {"x": np.array([{}], dtype=object)})
    assert names(tmp_path) == []


def synced(monkeypatch):
    """The paths that are fsynced from now on, in order; names are followed by what happens."""
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        atomic.os,
        "fsync",
        lambda number: events.append(os.readlink(f"/proc/self/fd/{number}")) or fsync(number),
    )
    monkeypatch.setattr(
        atomic.os,
        "replace",
        lambda made, target: events.append("replaced") or replace(made, target),
    )
    return events


def test_a_folder_is_on_disk_with_all_it_holds_before_it_takes_its_place(tmp_path, monkeypatch):
    made, target = tmp_path / "made", tmp_path / "target"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "file").write_text("new")
    target.mkdir()
    (target / "earlier").write_text("old")
    events = synced(monkeypatch)
    atomic.put(made, target)
    assert events == [
        *map(str, (made / "deep" / "file", made / "deep", made)),
        "replaced",
        str(tmp_path),
    ]
    assert names(tmp_path) == ["target"]
    assert names(target) == ["deep"]


def test_a_file_may_take_the_place_of_a_file(tmp_path):
    (tmp_path / "target").write_text("old")
    with atomic.unfinished(tmp_path / "target") as made:
        made.write_text("new")
        atomic.put(made, tmp_path / "target")
    assert (tmp_path / "target").read_text() == "new"
    assert names(tmp_path) == ["target"]


def test_a_folder_that_is_not_finished_is_removed(tmp_path):
    def fail():
        with atomic.unfinished(tmp_path / "target") as made:
            made.mkdir()
            (made / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


def test_what_a_killed_process_left_can_be_cleared(tmp_path):
    with atomic.unfinished(tmp_path / "target") as made:
        made.write_text("half")
        (tmp_path / ".hidden").write_text("of the user")
        atomic.remove_unfinished(tmp_path)
        assert names(tmp_path) == [".hidden"]
