"""Averages against their closed forms, in float64."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.config import presets
from sid2core.config.training import WIDEST_POWER, Ema
from sid2core.training import ema

CONF = Path(__file__).resolve().parents[2] / "conf"
WIDTHS = st.floats(0.01, WIDEST_POWER)


def averaged(trajectory, *emas):
    """All averages over weights that go from the first row to the last."""
    shares = ema.shares([Ema(kind=kind, value=value) for kind, value in emas])
    update = jax.jit(lambda states, params, step: ema.updated(states, params, step, shares))
    rows = [{"w": jnp.asarray(row, jnp.float32)} for row in trajectory]
    states = {name: rows[0] for name in shares}
    for step, params in enumerate(rows[1:]):
        states = update(states, params, jnp.int32(step))
    return {name: np.asarray(state["w"]) for name, state in states.items()}


def walk(steps, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(steps + 1, 3)), axis=0)


@given(WIDTHS, st.integers(1, 60), st.integers(0, 10))
@settings(max_examples=15, deadline=None)
def test_a_power_average_is_a_weighted_sum_of_all_steps(width, steps, seed):
    trajectory = walk(steps, seed)
    (found,) = averaged(trajectory, ("power", width)).values()
    edges = (np.arange(steps + 1) / steps) ** (ema.gamma(width) + 1)
    expected = np.diff(edges) @ trajectory[1:]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 30, 200])
def test_the_warm_up_of_a_decay_is_a_weighted_sum_of_all_steps(steps):
    """Up to step k the weights sum to binom(k + 10, 9) / binom(T + 10, 9)."""
    trajectory = walk(steps)
    (actual,) = averaged(trajectory, ("decay", 0.9999)).values()
    edges = [math.comb(k + 10, 9) / math.comb(steps + 10, 9) for k in range(steps + 1)]
    expected = np.diff(edges, prepend=0.0) @ trajectory
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_after_its_warm_up_a_decay_is_constant():
    """With decay 0.9 the warm-up ends at step 80; what it left decays by 0.9 a step."""
    decay, first, steps = 0.9, 80, 130
    trajectory = walk(steps)
    (start,) = averaged(trajectory[: first + 1], ("decay", decay)).values()
    (actual,) = averaged(trajectory, ("decay", decay)).values()
    count = steps - first
    weights = (1 - decay) * decay ** np.arange(count)[::-1]
    expected = decay**count * start + weights @ trajectory[first + 1 :]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_warm_up_leaves_nothing_in_the_trainings_of_the_paper():
    """Less than float32 can show, so that their average is that of a constant decay."""
    names = [name for name in presets.names(CONF) if name.startswith(("imagenet", "kinetics"))]
    assert len(names) == 8
    for name in names:
        train = presets.read(name, CONF).params["train"]
        decay, rest = train["ema_decay"], train["steps"] - 9 / (1 - train["ema_decay"])
        assert decay**rest < np.finfo(np.float32).eps, name


def test_several_are_kept_side_by_side_as_each_alone():
    trajectory, emas = walk(20), [("decay", 0.5), ("power", 0.1), ("power", 0.05)]
    together = averaged(trajectory, *emas)
    assert set(together) == {"ema_decay_0.5", "ema_power_0.1", "ema_power_0.05"}
    for one in emas:
        ((name, alone),) = averaged(trajectory, one).items()
        np.testing.assert_allclose(together[name], alone, rtol=1e-6)


@given(WIDTHS)
@settings(deadline=None)
def test_gamma_gives_back_the_width(width):
    g = ema.gamma(width)
    assert g > -1
    assert math.sqrt((g + 1) / (g + 3)) / (g + 2) == pytest.approx(width, rel=1e-6)


def test_gamma_is_the_published_one():
    assert ema.gamma(0.05) == pytest.approx(16.97, abs=0.005)
    assert ema.gamma(0.10) == pytest.approx(6.94, abs=0.005)
    assert ema.gamma(1 / math.sqrt(12)) == pytest.approx(0.0, abs=1e-6)


def test_the_width_is_that_share_of_the_training():
    """Standard deviation of the weights over time, of a long run, as a share of it."""
    steps, width = 200_000, 0.07
    middle = (np.arange(steps) + 0.5) / steps
    weights = np.diff((np.arange(steps + 1) / steps) ** (ema.gamma(width) + 1))
    mean = weights @ middle
    assert math.sqrt(weights @ (middle - mean) ** 2) == pytest.approx(width, rel=1e-4)


@pytest.mark.parametrize("t", [1, 2, 10, 1000, 10**6, 10**8])
@pytest.mark.parametrize("width", [0.01, 0.05, 0.25])
def test_a_late_step_has_its_small_share_to_float32(t, width):
    exponent = ema.gamma(width) + 1
    (share,) = ema.shares([Ema(kind="power", value=width)]).values()
    expected = 1.0 if t == 1 else -math.expm1(exponent * math.log1p(-1 / t))
    assert float(share(jnp.int32(t))) == pytest.approx(expected, rel=1e-5)
