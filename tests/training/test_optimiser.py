import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core import config
from sid2core.training import optimiser


def adam(**changes):
    fields = {
        "learning_rate": 0.1,
        "warmup_steps": 4,
        "decay": "linear",
        "adam_b1": 0.9,
        "adam_b2": 0.99,
        "adam_eps": 1e-8,
        "clip_norm": 1.0,
    }
    return config.Optimiser(**(fields | changes))


def rates(steps, **changes):
    schedule = optimiser.learning_rate(adam(**changes), steps)
    return [float(schedule(step)) for step in range(steps)]


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
@pytest.mark.parametrize("decay", ["constant", "linear"])
def test_the_rate_rises_to_its_peak_then_stays_or_falls_to_zero(warmup, decay):
    steps, peak = 12, 0.3
    expected = [
        peak * (step + 1) / warmup
        if step < warmup
        else peak * (1 if decay == "constant" else (steps - step) / (steps - warmup))
        for step in range(steps)
    ]
    found = rates(steps, warmup_steps=warmup, decay=decay, learning_rate=peak)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_run_shorter_than_its_warm_up_rises_all_the_way():
    assert rates(3, warmup_steps=10) == pytest.approx([0.01, 0.02, 0.03])


@given(st.integers(1, 60), st.integers(0, 30), st.sampled_from(["constant", "linear"]))
@settings(max_examples=25, deadline=None)
def test_the_rate_is_never_above_its_peak_nor_zero_before_the_end(steps, warmup, decay):
    found = rates(steps, warmup_steps=warmup, decay=decay)
    assert all(0 < rate <= 0.1 * (1 + 1e-6) for rate in found)


def reference(gradients, settings, steps):
    """Adam as published, with warm-up and clip, on vectors, in float64."""
    x, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    b1, b2, rate = settings.adam_b1, settings.adam_b2, rates(steps)
    for index, gradient in enumerate(gradients):
        gradient = gradient * min(1.0, settings.clip_norm / np.linalg.norm(gradient))
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        hat_m, hat_v = m / (1 - b1 ** (index + 1)), v / (1 - b2 ** (index + 1))
        x = x - rate[index] * hat_m / (np.sqrt(hat_v) + settings.adam_eps)
    return x


@pytest.mark.parametrize(
    "changes", [{}, {"adam_b1": 0.0, "adam_eps": 1e-12}, {"clip_norm": 100.0}, {"adam_eps": 0.5}]
)
def test_updates_are_adams(changes):
    """The clip is of the norm over all arrays together, not of each."""
    steps, draws = 10, np.random.default_rng(0)
    gradients = draws.normal(size=(steps, 3)) * np.geomspace(0.05, 5, steps)[:, None]
    built = optimiser.build(adam(**changes), steps)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(2)}
    state, update = built.init(params), jax.jit(built.update)
    for row in jnp.asarray(gradients, jnp.float32):
        change, state = update({"a": row[:1], "b": row[1:]}, state, params)
        params = jax.tree.map(jnp.add, params, change)
    found = np.concatenate([params["a"], params["b"]])
    np.testing.assert_allclose(found, reference(gradients, adam(**changes), steps), rtol=1e-4)
