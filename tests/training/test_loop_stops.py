"""The loop where something goes wrong, or someone asks: nothing is lost."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from sid2core.training import loop, signals
from sid2core.training.loop import Stopped, TrainingError
from tests.refusals import NO_CHECKPOINT, refused
from tests.training.toy import RUNTIME, SIZE, Clock, Killed, quadratic, same, saved, stopped


def test_a_row_with_skipped_steps_is_the_mean_of_the_others(tmp_path, caplog):
    """The step moves on, the state does not: what follows sees the noise of its own step."""
    state, log = loop.fit(quadratic(broken=(4, 9, 10)), tmp_path, RUNTIME)
    x, losses = np.ones(SIZE), []
    for index in range(15):
        losses.append(np.mean(x**2) / 2)
        if index not in (4, 9, 10):
            noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), (SIZE,))
            x = 0.9 * x + 0.1 * np.asarray(noise, np.float64)
    np.testing.assert_allclose(state["x"], x, atol=1e-6)
    assert [row["skipped"] for row in log.rows] == [0, 0, 1, 0, 1, 1, 0, 0]
    assert log.rows[2]["loss"] == pytest.approx(losses[5], rel=1e-5)
    assert log.rows[4]["loss"] == pytest.approx(losses[8], rel=1e-5)
    assert "toy: 1 of the last 2 updates, up to step 6, were not finite and skipped" in caplog.text


def test_a_row_without_any_mean_is_empty_and_stays_so(tmp_path):
    """Two steps skipped of two; the log of a run that was stopped has the same bytes."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _, log = loop.fit(quadratic(broken=(2, 3)), whole, RUNTIME)
    assert np.isnan(log.rows[1]["loss"])
    assert (whole / "curve.csv").read_text().splitlines()[2] == "4,,,2"
    with pytest.raises(Killed):
        loop.fit(quadratic(broken=(2, 3), fails_at=9), parts, RUNTIME)
    loop.fit(quadratic(broken=(2, 3)), parts, RUNTIME)
    assert (parts / "curve.csv").read_bytes() == (whole / "curve.csv").read_bytes()


def test_too_many_in_a_row_stop_with_step_norms_checkpoint_and_cure(tmp_path):
    """Counted across rows of the log, from the first that was not finite."""
    with pytest.raises(TrainingError) as caught:
        loop.fit(quadratic(broken=range(9, 15)), tmp_path, RUNTIME)
    message = str(caught.value)
    assert "toy: step 12 is not finite, as are 3 in a row (runtime.max_skipped)" in message
    assert re.search(r": grad_norm \d\S*, loss nan\. The last checkpoint", message)
    assert message.endswith(
        "The last checkpoint before the norms rose (after step 8) is of step 8; lower the rate"
    )
    assert list(pd.read_csv(tmp_path / "curve.csv")["step"]) == [2, 4, 6, 8]


def test_weights_from_before_the_norms_rose_are_exported(tmp_path):
    """Norms rise after step 8; the checkpoint of step 12 is inside the bad stretch."""
    toy, exported = quadratic(broken=range(12, 15)), {}

    def step(state, batch, index):
        state, scalars = toy.step(state, batch, index)
        return state, scalars | {"grad_norm": scalars["grad_norm"] * (100.0 if index > 8 else 1.0)}

    def export(folder, state):
        exported[folder] = int(state["step"])

    runtime = RUNTIME.model_copy(update={"keep_checkpoints": 4})
    cure = f"set train.init_from to {tmp_path / 'weights-8'}; lower the rate"
    with refused(TrainingError, "before the norms rose (after step 8) is of step 8", cure):
        loop.fit(replace(toy, step=step, export=export), tmp_path, runtime)
    assert exported == {tmp_path / "weights-8": 8}


def test_a_checkpoint_inside_the_bad_stretch_is_not_named(tmp_path):
    toy = quadratic(broken=range(12, 15))

    def step(state, batch, index):
        state, scalars = toy.step(state, batch, index)
        return state, scalars | {"grad_norm": scalars["grad_norm"] * (100.0 if index > 5 else 1.0)}

    with pytest.raises(TrainingError, match="before the norms rose .after step 6. is left; runt"):
        loop.fit(replace(toy, step=step), tmp_path, RUNTIME)


def test_how_many_in_a_row_outlives_a_kill(tmp_path):
    """Steps 7 and 8 are skipped before the checkpoint, 9 after it."""
    with pytest.raises(Killed):
        loop.fit(quadratic(broken=(6, 7, 8), fails_at=8), tmp_path, RUNTIME)
    with pytest.raises(TrainingError, match="step 9 is not finite, as are 3 in a row"):
        loop.fit(quadratic(broken=(6, 7, 8)), tmp_path, RUNTIME)


def test_a_loss_that_is_never_finite_says_that_no_checkpoint_is_there(tmp_path):
    with refused(TrainingError, f"{NO_CHECKPOINT}; lower the rate"):
        loop.fit(quadratic(broken=range(15)), tmp_path, RUNTIME)


def test_a_run_that_skips_nothing_stops_at_once(tmp_path):
    toy = quadratic()

    def step(state, batch, index):
        state, _ = toy.step(state, batch, index)
        return state, {"loss": jnp.float32(np.inf if index == 9 else 1.0)}

    with pytest.raises(TrainingError, match=r"toy: step 10 is not finite: loss inf\. The last"):
        loop.fit(replace(toy, step=step), tmp_path, RUNTIME)


@pytest.fixture
def asked(monkeypatch):
    """Make a run that is asked to stop in the middle of a step, and seen to have heard of it."""
    requests = []
    waits = signals.on_signals

    @contextmanager
    def noted(name):
        with waits(name) as request:
            requests.append(request)
            yield request

    def asked(toy, at):
        def step(state, batch, index):
            if index == at:
                signal.raise_signal(signal.SIGTERM)
                while requests[-1].by is None:
                    time.sleep(0.001)
            return toy.step(state, batch, index)

        return replace(toy, step=step)

    monkeypatch.setattr(signals, "on_signals", noted)
    return asked


@pytest.mark.parametrize("at", [0, 3, 4, 12])
def test_asked_to_stop_it_finishes_the_step_and_loses_nothing(tmp_path, undisturbed, asked, at):
    """At a row of the log and between two."""
    state, curve = undisturbed
    seen = []
    with pytest.raises(Stopped, match=f"stopped by SIGTERM after step {at + 1} of 15"):
        loop.fit(asked(quadratic(seen=seen), at), tmp_path, RUNTIME)
    assert seen == list(range(at + 1))
    resumed, _ = loop.fit(quadratic(seen=seen), tmp_path, RUNTIME)
    assert seen == list(range(15))
    assert same(resumed, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve


def test_asked_to_stop_in_the_last_step_it_ends_well(tmp_path, undisturbed, asked):
    state, _ = undisturbed
    ended, _ = loop.fit(asked(quadratic(), 14), tmp_path, RUNTIME)
    assert same(ended, state)


def test_stopped_again_and_again_and_killed_between(tmp_path, undisturbed, asked):
    """The log of another rhythm, too: rows need not meet checkpoints."""
    state, curve = undisturbed
    for at in (2, 6, 10):
        with pytest.raises(Stopped):
            loop.fit(asked(quadratic(), at), tmp_path, RUNTIME)
        stopped(tmp_path, at + 2)
    resumed, _ = loop.fit(quadratic(), tmp_path, RUNTIME)
    assert same(resumed, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve


@pytest.mark.parametrize("every", [1, 3, 5, 100])
def test_checkpoints_need_not_meet_rows(tmp_path, undisturbed, every):
    _, curve = undisturbed
    rhythm = RUNTIME.model_copy(update={"checkpoint_every": every})
    for at in (8, 13):
        with pytest.raises(Killed):
            loop.fit(quadratic(fails_at=at), tmp_path, rhythm)
    loop.fit(quadratic(), tmp_path, rhythm)
    assert (tmp_path / "curve.csv").read_bytes() == curve


def test_a_checkpoint_is_due_by_the_clock_too(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    runtime = RUNTIME.model_copy(
        update={"checkpoint_every": 1000, "checkpoint_minutes": 2.0, "keep_checkpoints": 9}
    )
    # A step takes 25 s: five are the first to take more than two minutes.
    loop.fit(quadratic(batches=clock.batches(15, 25.0)), tmp_path, runtime)
    assert saved(tmp_path) == [5, 10, 15]


@pytest.mark.parametrize(("keep", "expected"), [(1, [15]), (3, [8, 12, 15])])
def test_as_many_checkpoints_stay_as_asked(tmp_path, keep, expected):
    runtime = RUNTIME.model_copy(update={"keep_checkpoints": keep})
    loop.fit(quadratic(), tmp_path, runtime)
    assert saved(tmp_path) == expected


def test_beyond_them_some_stay_by_their_hour(tmp_path):
    runtime = RUNTIME.model_copy(update={"keep_checkpoints": 1, "keep_hours": 1000.0})
    loop.fit(quadratic(), tmp_path, runtime)
    assert saved(tmp_path) == [4, 15], "the first of these hours, and the newest"


@pytest.mark.parametrize("at", [2, 9])
def test_out_of_memory_ends_with_the_cure_and_the_last_checkpoint_whole(tmp_path, undisturbed, at):
    state, curve = undisturbed

    def step(state, batch, index):
        if index == at:
            jax.block_until_ready(jnp.zeros(10**14))
        return toy.step(state, batch, index)

    toy = quadratic()
    last = "checkpoint is of step 8; the same" if at == 9 else NO_CHECKPOINT
    with pytest.raises(TrainingError, match=rf"toy: out of memory \(RESOURCE.*{last}"):
        loop.fit(replace(toy, step=step), tmp_path, RUNTIME)
    resumed, _ = loop.fit(quadratic(), tmp_path, RUNTIME)
    assert same(resumed, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for a few states."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = 8 * 4 * SIZE
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_with_the_cure_and_the_last_checkpoint_whole(small_disk, undisturbed):
    state, curve = undisturbed
    runtime = RUNTIME.model_copy(update={"keep_checkpoints": 15, "checkpoint_every": 1})
    with pytest.raises(TrainingError) as caught:
        loop.fit(quadratic(), small_disk, runtime)
    message = str(caught.value)
    assert "toy: a disk is full" in message
    assert f"make room under {small_disk}" in message
    newest = saved(small_disk)[-1]
    assert f"The last good checkpoint is of step {newest};" in message
    # Room enough for the newest and the one that is being written.
    seen = []
    for step in saved(small_disk)[:-1]:
        shutil.rmtree(small_disk / "checkpoints" / str(step))
    resumed, _ = loop.fit(
        quadratic(seen=seen), small_disk, RUNTIME.model_copy(update={"keep_checkpoints": 1})
    )
    assert seen[0] == newest
    assert same(resumed, state)
    assert (small_disk / "curve.csv").read_bytes() == curve


def test_who_watches_is_shown_the_log_every_few_seconds(tmp_path, monkeypatch):
    clock, shown = Clock(), []
    monkeypatch.setattr(loop, "time", clock)
    toy = quadratic(batches=clock.batches(15, 3.0))
    loop.fit(toy, tmp_path, RUNTIME, show=lambda log: shown.append(log.rows[-1]["step"]))
    # A row takes 6 s, and shorter than 10 s is too often.
    assert shown == [4, 8, 12]


def test_who_looks_sees_the_state_and_changes_nothing(tmp_path, undisturbed, monkeypatch):
    state, curve = undisturbed
    clock, seen = Clock(), []
    monkeypatch.setattr(loop, "time", clock)

    def look(step, state):
        clock.now += 1000.0
        seen.append((step, int(state["step"])))

    runtime = RUNTIME.model_copy(update={"sample_every": 5})
    toy = quadratic(batches=clock.batches(15, 1.0))
    ended, log = loop.fit(toy, tmp_path, runtime, look=look)
    assert seen == [(5, 5), (10, 10), (15, 15)]
    assert same(ended, state)
    assert (tmp_path / "curve.csv").read_bytes() == curve
    assert {row["images_per_second"] for row in log.speed} == {7.0}, "looking is not stepping"
