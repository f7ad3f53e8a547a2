"""Gradient accumulation: a batch in parts is the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.data.load.loader import Loader
from sid2core.training import accumulation, loop
from tests import tiny
from tests.data import stored
from tests.stopping import Stopped, stopping
from tests.training.perceptron import perceptron


@given(st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None)
def test_every_row_is_in_one_part(rows, parts):
    batch = {"a": np.arange(rows * parts * 2).reshape(-1, 2), "b": np.arange(rows * parts)}
    split = accumulation.in_parts(batch, parts)
    for name, whole in batch.items():
        assert split[name].shape == (parts, rows, *whole.shape[1:])
        for index in range(parts):
            assert (split[name][index] == whole[index::parts]).all()


def test_mean_and_gradient_are_those_of_the_whole():
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(12, 3)), draws.normal(size=12)
    batch = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    w = np.array([0.3, -1.0, 2.0])

    def loss(w, part, index):
        x, y = part
        return jnp.mean(jnp.square(x @ w - y)), {"error": jnp.mean(x @ w - y)}

    for parts in (1, 2, 3, 12):
        (value, scalars), gradient = accumulation.mean_and_gradient(
            loss, jnp.asarray(w, jnp.float32), batch, parts
        )
        error = x @ w - y
        assert float(value) == pytest.approx(np.mean(error**2), rel=1e-5)
        assert float(scalars["error"]) == pytest.approx(np.mean(error), rel=1e-5)
        np.testing.assert_allclose(gradient, 2 * error @ x / 12, rtol=1e-4)


@pytest.fixture(scope="module")
def dataset():
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
    return stored.dataset(pixels, np.arange(64) % 10, "0123456789")


def run_of(dataset, parts, **train):
    """The network and the run."""
    params = tiny.params(
        train={"accumulation": parts, "condition_dropout": 0.5, **train},
        diffusion={"loss": {"sigmoid": {"bias": 4.0, "bias_start": -4.0, "bias_steps": 5}}},
    )
    network = perceptron(params, dataset.shape, dataset.condition)
    loader = Loader(dataset, params.train.batch_size, params.seed)
    return network, tiny.base_run(params, network, loader)


def after(run, steps=5):
    state, scalars = jax.jit(run.init)(), []
    for index in range(steps):
        state, row = run.step(state, next(run.batches(index)), index)
        scalars.append({name: float(value) for name, value in row.items()})
    return state, scalars


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def test_four_parts_are_the_batch_up_to_rounding(dataset):
    """Times, noise, dropped labels and the network's dropout are those of the whole batch."""
    optimiser = tiny.params().train.optimiser.model_dump() | {"adam_eps": 1e-3}
    (whole, rows), (parts, other) = (
        after(run_of(dataset, count, optimiser=optimiser)[1]) for count in (1, 4)
    )
    for one, two in zip(rows, other, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    for name in ("params", "ema"):
        distance = np.linalg.norm(flat(whole[name]) - flat(parts[name]))
        assert distance < 1e-6 * np.linalg.norm(flat(whole[name])), name


def test_the_network_depends_on_its_dropout_key(dataset):
    """The test above needs a network whose output depends on the dropout key."""
    network, run = run_of(dataset, 1)
    state = jax.jit(run.init)()
    z = jnp.ones((16, 8, 8, 1))
    arguments = (state["params"], z, jnp.zeros(16), tiny.labels(np.arange(16) % 10))
    apply = jax.jit(network.apply)
    one, two = (apply(*arguments, jax.random.key(key)) for key in (0, 1))
    assert float(jnp.abs(one - two).max()) > 1e-2


def test_a_run_in_parts_with_averages_and_a_moving_bias_resumes_to_the_last_bit(dataset, tmp_path):
    emas = [{"kind": "power", "value": 0.1}, {"kind": "decay", "value": 0.5}]
    _, run = run_of(dataset, 4, steps=9, emas=emas)
    runtime = tiny.params(runtime={"log_every": 2, "checkpoint_every": 4}).runtime
    expected, _ = loop.fit(run, tmp_path / "undisturbed", runtime)

    with pytest.raises(Stopped):
        loop.fit(stopping(run, 7), tmp_path / "stopped", runtime)
    resumed, _ = loop.fit(run, tmp_path / "stopped", runtime)
    assert set(resumed["emas"]) == {"ema_power_0.1", "ema_decay_0.5"}
    assert jax.tree.structure(resumed) == jax.tree.structure(expected)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), resumed, expected))
    logs = [(tmp_path / name / "curve.csv").read_bytes() for name in ("undisturbed", "stopped")]
    assert logs[0] == logs[1]
