import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core import config
from sid2core.conditioning import ConditionSpec
from sid2core.config.build import network as network_of
from sid2core.models.network import Network
from sid2core.training import optimiser
from tests import tiny


def adam(**changes):
    fields = {
        "name": "adam",
        "weight_decay": None,
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


KERNEL, BIAS, TABLE = "middle/blocks/0/qkv/kernel", "middle/blocks/0/qkv/bias", "middle/position"
WINDOW, FIRST = "encoder/0/blocks/0/conv_in/kernel", "patch_in/kernel"


def stepped(built, params, gradients):
    """Parameters after all updates."""
    state, update = built.init(params), jax.jit(built.update)
    for gradient in gradients:
        change, state = update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, change)
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


def normal(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_adamw_takes_its_decay_off_kernels_alone():
    """By AdamW as published: x ← x − rate (adam + decay x), against Adam without."""
    steps, decay = 6, 0.3
    params = {KERNEL: normal((4, 6), 0), BIAS: normal(6, 1), TABLE: normal((2, 2, 4), 2)}
    gradients = [
        {name: normal(value.shape, 10 * step + value.ndim) for name, value in params.items()}
        for step in range(steps)
    ]
    plain = stepped(optimiser.build(adam(), steps), params, gradients)
    settings = adam(name="adamw", weight_decay=decay)
    found = stepped(optimiser.build(settings, steps), params, gradients)
    for name in (BIAS, TABLE):
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-6)
    # Adam's own part is independent of the parameters, so it is the same in each step.
    expected, before = np.float64(params[KERNEL]), np.float64(params[KERNEL])
    for step, rate in enumerate(rates(steps)):
        now = stepped(optimiser.build(adam(), steps), params, gradients[: step + 1])[KERNEL]
        expected, before = expected + (now - before) - rate * decay * expected, now
    np.testing.assert_allclose(found[KERNEL], expected, rtol=1e-4, atol=1e-6)


def test_muon_turns_kernels_into_updates_of_equal_singular_values():
    """And of Adam's usual size; a convolution is one matrix from its window to its outputs."""
    params = {KERNEL: normal((24, 40), 0), WINDOW: normal((3, 3, 8, 16), 1)}
    gradient = {name: normal(value.shape, 2) for name, value in params.items()}
    settings = adam(name="muon", weight_decay=0.0, warmup_steps=0, learning_rate=0.1)
    found = stepped(optimiser.build(settings, 10), params, [gradient])
    for name, value in params.items():
        update = (found[name] - np.float64(value)).reshape(-1, value.shape[-1])
        singular = np.linalg.svd(update, compute_uv=False)
        assert singular.max() < 2 * singular.min(), name
        assert np.sqrt(np.mean(update**2)) == pytest.approx(0.2 * 0.1, rel=0.3), name


def test_muon_leaves_the_rest_to_adam():
    params = {
        name: normal(shape, seed)
        for seed, (name, shape) in enumerate(
            [(KERNEL, (4, 4)), (BIAS, (6,)), (TABLE, (2, 2, 4)), (FIRST, (1, 1, 1, 8))]
        )
    }
    params["conditioning/linear_in/kernel"] = normal((4, 4), 9)
    gradient = {name: normal(value.shape, 7) for name, value in params.items()}
    settings = adam(name="muon", weight_decay=0.5, warmup_steps=0, clip_norm=100.0)
    found = stepped(optimiser.build(settings, 10), params, [gradient])
    for name in set(params) - {KERNEL}:
        # Adam's first step is the rate times the sign, with Nesterov's correction a constant more.
        step = np.abs(found[name] - np.float64(params[name]))
        np.testing.assert_allclose(step, step.flat[0], rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_the_clip_is_of_the_whole_gradient_whatever_follows(name):
    """A gradient beyond the clip gives the update of the clipped one."""
    params = {KERNEL: normal((4, 4), 0), BIAS: normal(4, 1)}
    gradient = {key: normal(value.shape, 3) for key, value in params.items()}
    size = np.sqrt(sum(float(jnp.sum(jnp.square(value))) for value in gradient.values()))
    settings = adam(name=name, weight_decay=None if name == "adam" else 0.1, adam_eps=0.1)
    built = optimiser.build(settings, 10)
    large, clipped = (
        stepped(built, params, [{key: scale * value for key, value in gradient.items()}])
        for scale in (50.0, 1 / size)
    )
    for key in params:
        np.testing.assert_allclose(large[key], clipped[key], rtol=1e-5)


def test_muon_trains_every_parameter_of_the_network():
    params = tiny.params(
        train={
            "optimiser": tiny.PARAMS["train"]["optimiser"] | {"name": "muon", "weight_decay": 0.1}
        }
    )
    shapes = Network(network_of(params.model, (8, 8, 1), ConditionSpec.of_classes(10))).shapes()
    matrices = optimiser._matrices(shapes)
    assert set(matrices) == set(shapes)
    muons = {name for name, numbers in matrices.items() if numbers is not None}
    assert all(name.endswith("/kernel") for name in muons)
    assert len(muons) > 5
    built = optimiser.build(params.train.optimiser, 5)
    state = jax.eval_shape(built.init, shapes)
    changes, _ = jax.eval_shape(built.update, shapes, state, shapes)
    assert {name: value.shape for name, value in changes.items()} == {
        name: value.shape for name, value in shapes.items()
    }
