import json
import os
import socket

import pytest

from sid2core.pipeline import progress, running


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path))
    monkeypatch.setattr(running, "_SECONDS", 0.0)
    return tmp_path / "running"


def test_a_bar_of_a_stage_is_listed_while_the_stage_runs(folder, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-rice")
    with running.stage("distill"):
        assert running.listed() == []
        with progress.bar(10, "student_2", "step", initial=4) as bar:
            assert (running.listed()[0].done, running.listed()[0].rate) == (4, None)
            bar.set_postfix(loss="0.5", refresh=False)
            bar.update(2)
            (one,) = running.listed()
    assert (one.stage, one.task, one.unit, one.done, one.total) == (
        *("distill", "student_2", "step", 6, 10),
    )
    assert (one.values, one.experiment, one.folder) == ({"loss": "0.5"}, "puffy-rice", os.getcwd())
    assert one.seconds_left() == pytest.approx(4 / one.rate)
    assert [*folder.iterdir()] == []


def test_bars_that_print_nothing_are_listed_and_hidden_ones_are_not(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with running.stage("train"):
        with progress.bar(4, "train", "step", shown=False) as bar:
            bar.update()
            assert running.listed() == []
        with progress.bar(4, "train", "step") as bar:
            bar.update(3)
            assert running.listed()[0].done == 3


def test_outside_a_stage_nothing_is_written(folder):
    with progress.bar(4, "fd", "image") as bar:
        bar.update()
    assert not folder.exists()


def test_what_a_killed_process_left_is_not_listed_and_is_removed(folder):
    with running.stage("train"), progress.bar(4, "train", "step"):
        (own,) = folder.iterdir()
        state = json.loads(own.read_text())
        killed = folder / "killed.json"
        killed.write_text(json.dumps(state | {"created": state["created"] - 100}))
        (folder / "older-version.json").write_text('{"stage": "train"}')
        assert len(running.listed()) == 1
        with progress.bar(4, "train", "step"):
            assert [*folder.iterdir()] == [own]


def test_a_stage_of_another_machine_is_listed_for_an_hour():
    one = running.Running("train", "train", "step", 1, 2, host=f"not-{socket.gethostname()}")
    assert one.alive()
    one.updated -= 3601
    assert not one.alive()


def test_a_folder_that_cannot_be_written_stops_no_stage(folder, caplog):
    folder.write_text("not a folder")
    with running.stage("train"), progress.bar(4, "train", "step") as bar:
        bar.update(4)
        folder.unlink()
    assert caplog.text.count("`sid2 watch` cannot follow train") == 1
