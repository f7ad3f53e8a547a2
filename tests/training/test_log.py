import json
import math

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.training import log as logs
from sid2core.training.log import Log, means

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def filled(losses, skipped=()):
    """A log of one row a step."""
    log = Log()
    for step, loss in enumerate(losses, 1):
        count = int(step in skipped)
        log.pending = [{"loss": jnp.float32(loss), "skipped": jnp.int32(count)}]
        log.close_row(step, {"images_per_second": 1.5})
    return log


@settings(deadline=None)
@given(st.lists(st.tuples(FLOATS, st.booleans()), min_size=1, max_size=8))
def test_skipped_steps_are_counted_and_left_out_of_the_means(steps):
    given_steps = [{"loss": math.nan if bad else loss, "skipped": int(bad)} for loss, bad in steps]
    row = means(given_steps)
    good = [loss for loss, bad in steps if not bad]
    assert row["skipped"] == len(steps) - len(good)
    if good:
        expected = math.fsum(good) / len(good)
        assert row["loss"] == pytest.approx(expected, rel=1e-6, abs=1e-30)
    else:
        assert math.isnan(row["loss"])


@settings(deadline=None, max_examples=30)
@given(
    losses=st.lists(FLOATS, min_size=1, max_size=8),
    skipped=st.sets(st.integers(1, 8)),
    cut=st.integers(0, 8),
)
def test_a_log_that_is_cut_and_filled_again_has_the_same_bytes(
    tmp_path_factory, losses, skipped, cut
):
    """Empty cells of rows in which no update counted included."""
    folder = tmp_path_factory.mktemp("log")
    losses = [math.nan if step in skipped else loss for step, loss in enumerate(losses, 1)]
    whole = filled(losses, skipped)
    whole.flush(folder)
    before = (folder / "curve.csv").read_bytes()
    cut = min(cut, len(losses))
    log = Log(**json.loads(json.dumps(filled(losses[:cut], skipped).saved())))
    assert [row["step"] for row in log.rows] == list(range(1, cut + 1))
    for row, speed in zip(whole.rows[cut:], whole.speed[cut:], strict=True):
        log.rows.append(row)
        log.speed.append(speed)
    log.flush(folder)
    assert (folder / "curve.csv").read_bytes() == before


def test_what_is_pending_goes_on_where_a_checkpoint_left_it():
    log = filled([1.0, 2.0])
    log.pending = [{"loss": jnp.float32(0.1), "skipped": jnp.int32(0)}]
    saved = log.saved()
    assert saved["pending"] == [{"loss": float(np.float32(0.1)), "skipped": 0}]
    again = Log(**saved)
    again.pending.append({"loss": jnp.float32(0.3), "skipped": jnp.int32(0)})
    row = again.close_row(4, {"images_per_second": 1.5})
    assert row == {"step": 4, "loss": 0.2, "skipped": 0}


@pytest.mark.parametrize(
    ("norms", "skipped", "expected"),
    [
        ([], (), 0),
        ([50.0, 2.0, 1.0, 1.0, 1.0], (), 5),
        ([50.0, 2.0, 1.0, 1.0, 9.0, 90.0], (), 4),
        ([1.0, 1.0, 1.0, 9.0, 1.0, 9.0], (), 5),
        ([1.0, 1.0, math.nan], (), 2),
        ([1.0, 1.0, 1.0], (2, 3), 1),
        ([math.nan, math.nan], (1, 2), 0),
        ([1.0] * 30 + [50.0] * 70, (), 30),  # most of the log is after a jump
        ([1.0] * 50 + [1.2**row for row in range(50)], (), 58),  # a slow divergence
        ([0.02 * row for row in range(1, 51)], (), 50),  # the warm-up of the learning rate
        ([20.0 / row for row in range(1, 51)], (), 50),
    ],
)
def test_norms_are_calm_until_they_rise_and_stay_high(norms, skipped, expected):
    rows = [
        {"step": step, "loss": 1.0, "grad_norm": norm, "skipped": int(step in skipped)}
        for step, norm in enumerate(norms, 1)
    ]
    assert Log(rows).calm_until() == expected


def test_a_run_that_is_bad_from_its_first_rows_is_calm_only_there():
    """Norms of a run with 10,000 times the rate; the rows after the sixth are much alike."""
    norms = [112.0, 740.3, 1730.0, 3200.0, 9800.0, 21000.0, *[21600.0] * 200]
    rows = [
        {"step": 2 * row, "loss": 1.0, "param_norm": norm, "skipped": 0}
        for row, norm in enumerate(norms, 1)
    ]
    assert Log(rows).calm_until() == 6


def test_the_latest_mean_is_the_last_that_is_a_number():
    assert filled([1.0, 2.0, math.nan], {3}).latest("loss") == 2.0
    assert filled([math.nan], {1}).latest("loss") is None


def test_the_tables_are_replaced_whole(tmp_path):
    filled([1.0]).flush(tmp_path)
    filled([1.0, 2.0]).flush(tmp_path)
    assert len(pd.read_csv(tmp_path / "curve.csv")) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"curve.csv", "speed.csv"}


def test_peak_memory_is_the_fullest_devices_or_the_processs(monkeypatch):
    class Device:
        def __init__(self, peak):
            self.peak = peak

        def memory_stats(self):
            return None if self.peak is None else {"peak_bytes_in_use": self.peak}

    resident = logs.peak_memory_mib()
    assert 50 < resident < 2**20
    monkeypatch.setattr(logs.jax, "local_devices", lambda: [Device(2**20), Device(3 * 2**20)])
    assert logs.peak_memory_mib() == 3.0
    monkeypatch.setattr(logs.jax, "local_devices", lambda: [Device(None)])
    assert logs.peak_memory_mib() >= resident
