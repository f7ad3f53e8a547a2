import logging
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest

from sid2core.training import loop
from sid2core.training.checkpoints import Checkpoints
from sid2core.training.loop import TrainingError
from tests.damage import DAMAGES
from tests.training.toy import RUNTIME, SIZE, Clock, Killed, quadratic, same, stopped


def test_every_step_is_taken_once_in_order(tmp_path):
    seen = []
    state, log = loop.fit(quadratic(seen=seen), tmp_path, RUNTIME)
    assert seen == list(range(15))
    assert int(state["step"]) == 15
    assert [row["step"] for row in log.rows] == [2, 4, 6, 8, 10, 12, 14, 15]


def test_a_row_is_the_mean_since_the_row_before(tmp_path):
    x, losses = np.ones(SIZE), []
    for index in range(15):
        losses.append(np.mean(x**2) / 2)
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), (SIZE,))
        x = 0.9 * x + 0.1 * np.asarray(noise, np.float64)
    state, log = loop.fit(quadratic(), tmp_path, RUNTIME)
    np.testing.assert_allclose(state["x"], x, atol=1e-6)
    expected = [np.mean(losses[i : i + 2]) for i in range(0, 15, 2)]
    np.testing.assert_allclose([row["loss"] for row in log.rows], expected, rtol=1e-5)
    table = pd.read_csv(tmp_path / "curve.csv")
    assert set(table) == {"step", "loss", "grad_norm", "skipped"}
    assert table.to_dict("records") == log.rows


def test_the_rate_is_kept_apart(tmp_path):
    loop.fit(quadratic(), tmp_path, RUNTIME)
    table = pd.read_csv(tmp_path / "speed.csv")
    assert list(table) == ["step", "images_per_second", "data_wait_share", "peak_memory_mib"]
    assert (table["peak_memory_mib"] > 50).all()
    assert (table["images_per_second"] > 0).all()
    assert table["data_wait_share"].between(0, 1).all()
    assert list(table["step"]) == [2, 4, 6, 8, 10, 12, 14, 15]


def test_waiting_for_data_is_reported(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    toy = quadratic(4, batches=clock.batches(4, 3.0))

    def step(state, batch, index):
        clock.now += 1.0 + index // 2
        return jax.block_until_ready(toy.step(state, batch, index))

    monkeypatch.setattr(loop, "peak_memory_mib", lambda: 123.4)
    _, log = loop.fit(replace(toy, step=step), tmp_path, RUNTIME)
    # Two batches and two steps a row, of one second and then of two; a step is of 7 images.
    assert log.speed == [
        {
            "step": step,
            "images_per_second": round(14 / seconds, 1),
            "data_wait_share": 6 / seconds,
            "peak_memory_mib": 123.4,
        }
        for step, seconds in ((2, 8), (4, 10))
    ]


def test_utilisation_is_the_steps_work_against_the_ceiling(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop.peak_flops, "gflops_per_second", lambda dtype, devices: 40.0)
    toy = quadratic(4, batches=clock.batches(4, 3.0))
    _, log = loop.fit(replace(toy, gflops_step=30.0), tmp_path, RUNTIME)
    # Two steps a row, of 3 seconds each (waiting counts: it is what the user pays for).
    assert [row["utilisation"] for row in log.speed] == [0.25, 0.25]


@pytest.mark.parametrize("ready", [True, False])
def test_what_data_take_while_the_device_computes_is_no_waiting(monkeypatch, ready):
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    state = {"x": SimpleNamespace(is_ready=lambda: ready)}
    watch = loop._Watch(quadratic(), RUNTIME)
    assert watch.next(clock.batches(2, 3.0)(0), state) == 0
    clock.now += 1.0
    assert watch.rates()["data_wait_share"] == (3 / 4 if ready else 0.0)


def test_few_steps_are_under_way_so_few_batches_are_on_the_device(tmp_path, monkeypatch):
    """Before each step after the second, the one before the last is waited for."""
    events, wait = [], jax.block_until_ready
    toy = quadratic(6)

    def step(state, batch, index):
        events.append(index)
        state, scalars = toy.step(state, batch, index)
        return state, scalars | {"index": index}

    def waits(scalars):
        events.append([one["index"] for one in scalars])
        return wait(scalars)

    monkeypatch.setattr(jax, "block_until_ready", waits)
    loop.fit(replace(toy, step=step), tmp_path, RUNTIME)
    # A log's row has waited for all before it.
    assert events == [0, [], 1, [0], 2, [], 3, [2], 4, [], 5, [4]]


@pytest.mark.parametrize("end", ["well", "killed", "nan"])
def test_batches_are_closed_however_a_run_ends(tmp_path, end):
    closed = []
    toy = quadratic(
        batches=Clock().batches(15, 0.0, closed),
        fails_at=5 if end == "killed" else None,
        broken=range(5, 15) if end == "nan" else (),
    )
    if end == "well":
        loop.fit(toy, tmp_path, RUNTIME)
    else:
        with pytest.raises(Killed if end == "killed" else TrainingError):
            loop.fit(toy, tmp_path, RUNTIME)
    assert closed == [True]


def test_what_fails_in_the_data_stops_the_run_as_it_is(tmp_path):
    def batches(index):
        yield from range(index, 5)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        loop.fit(quadratic(batches=batches), tmp_path, RUNTIME)
    resumed, _ = loop.fit(quadratic(), tmp_path, RUNTIME)
    assert int(resumed["step"]) == 15


@pytest.mark.parametrize("at", [1, 4, 5, 9, 14])
def test_a_resumed_run_ends_with_the_same_state_and_log(tmp_path, undisturbed, at):
    state, curve = undisturbed
    stopped(tmp_path, at)
    seen = []
    resumed, _ = loop.fit(quadratic(seen=seen), tmp_path, RUNTIME)
    assert seen == list(range(at // 4 * 4, 15))
    assert same(resumed, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve
    assert list(pd.read_csv(tmp_path / "speed.csv")["step"]) == [2, 4, 6, 8, 10, 12, 14, 15]


def test_a_run_may_be_stopped_again_and_again(tmp_path, undisturbed):
    state, curve = undisturbed
    for at in (5, 6, 10, 13):
        stopped(tmp_path, at)
    resumed, _ = loop.fit(quadratic(), tmp_path, RUNTIME)
    assert same(resumed, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve


def test_a_finished_run_takes_no_step(tmp_path, undisturbed):
    state, curve = undisturbed
    loop.fit(quadratic(), tmp_path, RUNTIME)
    seen = []
    again, log = loop.fit(quadratic(seen=seen), tmp_path, RUNTIME)
    assert seen == []
    assert same(again, state)
    assert log.rows[-1]["step"] == 15
    assert (tmp_path / "curve.csv").read_bytes() == curve


def test_the_log_says_where_it_goes_on(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    stopped(tmp_path, 9)
    assert "toy starts at step 0 of 15" in caplog.text
    caplog.clear()
    loop.fit(quadratic(), tmp_path, RUNTIME)
    assert "toy resumes from step 8 of 15" in caplog.text


def test_a_log_ahead_of_its_checkpoint_is_cut_back(tmp_path, undisturbed):
    """A kill between the flush of the log and the end of the checkpoint's writing."""
    _, curve = undisturbed
    stopped(tmp_path, 14)
    shutil.rmtree(tmp_path / "checkpoints" / "12")
    loop.fit(quadratic(), tmp_path, RUNTIME)
    assert (tmp_path / "curve.csv").read_bytes() == curve


def test_a_checkpoint_that_was_cut_short_is_not_seen(tmp_path, undisturbed):
    state, curve = undisturbed
    stopped(tmp_path, 9)
    whole = tmp_path / "checkpoints" / "8"
    half = tmp_path / "checkpoints" / "12.orbax-checkpoint-tmp"
    shutil.copytree(whole, half)
    for file in sorted(path for path in half.rglob("*") if path.is_file())[::2]:
        file.unlink()
    seen = []
    resumed, _ = loop.fit(quadratic(seen=seen), tmp_path, RUNTIME)
    assert seen[0] == 8
    assert same(resumed, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve
    assert not half.exists()


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A run that was killed with checkpoints of steps 4 and 8."""
    folder = tmp_path_factory.mktemp("killed")
    stopped(folder, 9)
    return folder


def files_of(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    two_checkpoints, tmp_path, caplog, damage
):
    """Every file of the newest checkpoint that is sealed; the others are not needed."""
    names = [path.relative_to(two_checkpoints) for path in files_of(two_checkpoints)]
    newest = [name for name in names if name.parts[:2] == ("checkpoints", "8")]
    assert len(newest) > 10
    for name in newest:
        caplog.clear()
        folder = tmp_path / "run"
        shutil.copytree(two_checkpoints, folder)
        damage(folder / name)
        sealed = name.parts[2] in ("default", "log.json", "log.json.sha256")
        checkpoints = Checkpoints(folder / "checkpoints", RUNTIME)
        assert checkpoints.newest() == (4 if sealed else 8), name
        if sealed:
            assert "is damaged" in caplog.text
            assert "the checkpoint of step 8 is removed" in caplog.text
        else:
            state, log = checkpoints.restore(8, quadratic().init())
            assert int(state["step"]) == 8
            assert log["rows"][-1]["step"] == 8
        checkpoints.close()
        shutil.rmtree(folder)


def test_a_run_continues_from_the_checkpoint_before_a_damaged_one(
    two_checkpoints, tmp_path, undisturbed
):
    state, curve = undisturbed
    folder = tmp_path / "run"
    shutil.copytree(two_checkpoints, folder)
    DAMAGES[0](folder / "checkpoints" / "8" / "log.json")
    (folder / "curve.csv").write_bytes(b"step,lo")
    seen = []
    resumed, _ = loop.fit(quadratic(seen=seen), folder, RUNTIME)
    assert seen[0] == 4
    assert same(resumed, state)
    assert (folder / "curve.csv").read_bytes() == curve


def test_if_all_checkpoints_are_damaged_the_run_starts_again(
    two_checkpoints, tmp_path, undisturbed
):
    state, curve = undisturbed
    folder = tmp_path / "run"
    shutil.copytree(two_checkpoints, folder)
    for step in "48":
        DAMAGES[1](folder / "checkpoints" / step / "log.json")
    resumed, _ = loop.fit(quadratic(), folder, RUNTIME)
    assert same(resumed, state)
    assert (folder / "curve.csv").read_bytes() == curve


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    loop.fit(quadratic(), tmp_path, RUNTIME)
    found = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()}
    assert found == {"12", "15"}
