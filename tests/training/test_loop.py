import logging
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from sid2core import config
from sid2core.training import loop
from sid2core.training.loop import Run, TrainingError

SIZE = 50_000
RUNTIME = config.Runtime(
    log_every=2, checkpoint_every=4, remat="none", scan_blocks=8, attention="auto"
)


class Killed(BaseException):
    """What no handler in the loop may catch."""


def quadratic(steps=15, *, fails_at=None, breaks_at=None, seen=None):
    """Noisy gradient descent on |x|² / 2: its state says everything that came before.

    Its buffers are given away at each step, as in training: a checkpoint must not share them.
    """
    seen = [] if seen is None else seen

    @partial(jax.jit, donate_argnums=0)
    def update(state, index):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), (SIZE,))
        loss = jnp.mean(jnp.square(state["x"])) / 2
        new = {"step": state["step"] + 1, "x": 0.9 * state["x"] + 0.1 * noise}
        return new, {"loss": loss, "grad_norm": jnp.sqrt(2 * loss)}

    def step(state, index):
        if index == fails_at:
            raise Killed
        seen.append(index)
        state, scalars = update(state, index)
        return state, scalars | ({"loss": jnp.nan} if index == breaks_at else {})

    def init():
        return {"step": jnp.zeros((), jnp.int32), "x": jnp.ones(SIZE)}

    return Run("toy", steps, init, step, images_per_step=7, cure="lower the rate")


def stopped(folder, at, **kwargs):
    with pytest.raises(Killed):
        loop.fit(quadratic(fails_at=at, **kwargs), folder, RUNTIME)


def same(state, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, other))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    state, _ = loop.fit(quadratic(), folder, RUNTIME)
    return state, (folder / "curve.csv").read_bytes()


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
    assert set(table) == {"step", "loss", "grad_norm"}
    assert table.to_dict("records") == log.rows


def test_the_rate_is_kept_apart(tmp_path):
    loop.fit(quadratic(), tmp_path, RUNTIME)
    table = pd.read_csv(tmp_path / "speed.csv")
    assert list(table) == ["step", "images_per_second"]
    assert (table["images_per_second"] > 0).all()
    assert list(table["step"]) == [2, 4, 6, 8, 10, 12, 14, 15]


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


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    loop.fit(quadratic(), tmp_path, RUNTIME)
    found = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()}
    assert found == {"12", "15"}


def test_a_loss_that_is_not_finite_stops_with_step_and_cure(tmp_path):
    with pytest.raises(TrainingError) as caught:
        loop.fit(quadratic(breaks_at=10), tmp_path, RUNTIME)
    message = str(caught.value)
    assert "{'loss': nan} at step 12" in message
    assert "the last good one is of step 8" in message
    assert "lower the rate" in message
    assert list(pd.read_csv(tmp_path / "curve.csv")["step"]) == [2, 4, 6, 8]


def test_a_loss_that_is_never_finite_says_that_no_checkpoint_is_there(tmp_path):
    with pytest.raises(TrainingError, match=r"at step 2 \(none was written\); lower the rate"):
        loop.fit(quadratic(breaks_at=0), tmp_path, RUNTIME)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 12345.678, 1e12])
def test_a_log_survives_being_read_and_written(tmp_path, scale):
    """Seven digits come back to the last bit, so a resumed log has the bytes of an unbroken one."""
    draws = np.random.default_rng(0).uniform(1, 10, 400) * scale
    rows = [
        {"step": 2 * index, **loop._means([{"loss": value, "grad_norm": 1.0}])}
        for index, value in enumerate(draws)
    ]
    log = loop.Log(rows, [{"step": 2 * index, "images_per_second": 1.5} for index in range(400)])
    log.flush(tmp_path)
    before = (tmp_path / "curve.csv").read_bytes()
    loop.Log.read(tmp_path, 800).flush(tmp_path)
    assert (tmp_path / "curve.csv").read_bytes() == before
