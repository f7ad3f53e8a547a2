import math
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core import rng
from sid2core.conditioning import ConditionSpec
from sid2core.config.build import network as network_of
from sid2core.data.load.loader import Batch, Loader
from sid2core.diffusion.losses import WeightedLoss
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.diffusion.weighting import SigmoidWeighting, TimeShiftedBias
from sid2core.models.network import Network
from sid2core.training import base
from sid2core.training.base import Objective
from sid2core.training.initialisation import Start
from tests import tiny
from tests.data import stored
from tests.training.toy import same

SCHEDULE = CosineInterpolated(64, 32)
BIAS = -1.5


@dataclass(frozen=True)
class Shape:
    condition: ConditionSpec = ConditionSpec.of_classes(5)


@dataclass(frozen=True)
class Affine(Network):
    """Predicts scale · z + shift, and remembers what it was asked."""

    config: Shape = Shape()
    asked: list = field(default_factory=list, compare=False)

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        self.asked.append((z, logsnr, condition.label, dropout_key))
        return params["scale"] * z + params["shift"]


def objective(prediction=Prediction.V, dropout=0.0, bias=BIAS):
    loss = WeightedLoss(SigmoidWeighting(bias))
    return Objective(Affine(), SCHEDULE, loss, prediction, dropout)


def images(count=6, seed=0):
    draws = np.random.default_rng(seed)
    return jnp.asarray(draws.uniform(-1, 1, (count, 4, 4, 2)), jnp.float32)


PARAMS = {"scale": jnp.float32(0.7), "shift": jnp.float32(0.1)}


def asked(loss, x, labels, key=0, step=0):
    """The loss, and what the network was asked for it."""
    value, _ = loss(PARAMS, x, tiny.labels(labels), jax.random.key(key), jnp.int32(step))
    return float(value), loss.network.asked[-1]


def time_of(logsnr):
    """By bisection of the schedule in float64."""
    low, high = np.zeros(len(logsnr)), np.ones(len(logsnr))
    for _ in range(60):
        middle = (low + high) / 2
        later = SCHEDULE.logsnr_exact(middle) > logsnr
        low, high = np.where(later, middle, low), np.where(later, high, middle)
    return low


def falling(t):
    """−dλ/dt of the interpolated cosine, by its angle: 4a / sin(2(at + b)) less the shift."""
    b = math.atan(math.exp(-5.0))
    a = math.atan(math.exp(5.0)) - b
    return 4 * a / np.sin(2 * (a * t + b)) - 2 * math.log(32 / 64)


@pytest.mark.parametrize("prediction", Prediction)
def test_the_loss_is_the_weighted_error_computed_by_hand(prediction):
    """By the printed sigmoid loss, in x, whatever the network predicts."""
    x = images()
    found, (z, logsnr, _, _) = asked(objective(prediction), x, jnp.arange(6) % 5)
    x, z, level = np.float64(x), np.float64(z), np.float64(logsnr)
    alpha = np.sqrt(1 / (1 + np.exp(-level)))[:, None, None, None]
    sigma = np.sqrt(1 / (1 + np.exp(level)))[:, None, None, None]
    output = 0.7 * z + 0.1
    x_hat = {
        Prediction.V: alpha * z - sigma * output,
        Prediction.EPS: (z - sigma * output) / alpha,
        Prediction.X: output,
    }[prediction]
    error = np.mean((x - x_hat) ** 2, axis=(1, 2, 3))
    weight = math.exp(BIAS) / (1 + np.exp(BIAS - level))
    expected = np.mean(0.5 * falling(time_of(level)) * weight * error)
    assert found == pytest.approx(expected, rel=1e-4)


def test_images_are_noised_by_the_schedule():
    x = jnp.tile(images(1), (512, 1, 1, 1))
    _, (z, logsnr, _, _) = asked(objective(), x, jnp.zeros(512, jnp.int32))
    level = np.float64(logsnr)[:, None, None, None]
    noise = (np.float64(z) - np.sqrt(1 / (1 + np.exp(-level))) * np.float64(x)) * np.sqrt(
        1 + np.exp(level)
    )
    assert np.mean(noise) == pytest.approx(0.0, abs=0.03)
    assert np.var(noise) == pytest.approx(1.0, abs=0.04)
    # No two examples share their noise.
    correlation = np.corrcoef(noise.reshape(512, -1)[:20])
    assert np.abs(correlation - np.eye(20)).max() < 0.9


def test_times_are_spread_over_the_batch():
    _, (_, logsnr, _, _) = asked(objective(), images(8), jnp.zeros(8, jnp.int32))
    times = np.sort(time_of(np.float64(logsnr)))
    np.testing.assert_allclose(np.diff(times), 1 / 8, atol=1e-4)


def test_labels_are_dropped_as_often_as_asked():
    labels = jnp.arange(4000, dtype=jnp.int32) % 5
    x = jnp.zeros((4000, 1, 1, 1))
    _, (_, _, kept, _) = asked(objective(dropout=0.0), x, labels)
    assert (kept == labels).all()
    _, (_, _, seen, _) = asked(objective(dropout=0.3), x, labels)
    null = np.asarray(seen) == 5
    # 5 deviations of a share of 4000.
    assert null.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 4000))
    assert (np.asarray(seen)[~null] == np.asarray(labels)[~null]).all()


def test_dropout_noise_and_times_depend_on_the_key():
    x, labels = images(), jnp.zeros(6, jnp.int32)
    first, again, other = (asked(objective(), x, labels, key) for key in (0, 0, 1))
    assert first[0] == again[0] != other[0]
    assert (first[1][0] == again[1][0]).all()
    assert (first[1][1] != other[1][1]).all()
    key, another = first[1][3], other[1][3]
    assert (jax.random.key_data(key) != jax.random.key_data(another)).any()


def test_the_bias_may_move_with_the_step():
    moving = TimeShiftedBias(-8.0, BIAS, 100)
    x, labels = images(), jnp.zeros(6, jnp.int32)
    start, _ = asked(objective(bias=moving), x, labels, step=0)
    end, _ = asked(objective(bias=moving), x, labels, step=100)
    assert start == pytest.approx(asked(objective(bias=-8.0), x, labels)[0], rel=1e-5)
    assert end == pytest.approx(asked(objective(), x, labels)[0], rel=1e-5)


# XLA takes what is nearly nothing for zero; NumPy does not.
NUMBERS = partial(st.floats, width=32, allow_subnormal=False)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(NUMBERS(0, 100), NUMBERS(-20, 20)), min_size=1))
def test_the_parts_of_the_loss_are_of_their_log_snr_and_add_up(examples):
    losses, logsnr = np.array(examples, np.float32).T
    parts = base.by_logsnr(jnp.asarray(losses), jnp.asarray(logsnr))
    edges = [-np.inf, -5, 0, 5, np.inf]
    expected = [
        np.sum(losses[(low <= logsnr) & (logsnr < high)], dtype=np.float64) / len(losses)
        for low, high in pairwise(edges)
    ]
    assert list(parts) == [
        "loss_logsnr_below_-5",
        "loss_logsnr_-5_to_0",
        "loss_logsnr_0_to_5",
        "loss_logsnr_above_5",
    ]
    np.testing.assert_allclose(list(parts.values()), expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(sum(parts.values()), np.mean(losses), rtol=1e-5, atol=1e-30)


def test_what_is_frozen_has_no_gradient_and_the_rest_the_same():
    def gradient(frozen):
        loss = replace(objective(), frozen=frozenset(frozen))
        arguments = images(), tiny.labels([0] * 6), jax.random.key(0), jnp.int32(0)
        return jax.grad(loss, has_aux=True)(PARAMS, *arguments)[0]

    whole, part = gradient(()), gradient({"shift"})
    assert part["shift"] == 0.0 != whole["shift"]
    assert part["scale"] == whole["scale"]


def loss_of_mean(params, x, condition, key, step):
    """Its gradient is x's mean less the parameter, plus noise of the key."""
    del condition, step
    target = jnp.mean(x) + jax.random.normal(key)
    return 0.5 * jnp.square(params["w"] - target), {}


def test_an_update_is_a_step_of_the_optimiser_then_of_the_average(unchecked):
    """Gradient descent by hand, the EMA by its recursion, images taken from bytes to [-1, 1]."""
    decay, rate = 0.8, 0.1
    sgd = optax.sgd(rate)
    state = base.initial_state({"w": jnp.float32(2.0)}, sgd)
    assert state["ema"]["w"] == 2.0
    update = jax.jit(partial(base.update, objective=loss_of_mean, chain=sgd, ema_decay=decay))
    raw = np.full((2, 1, 1, 1), 204, np.uint8)
    key, w, ema = jax.random.key(3), 2.0, 2.0
    for step in range(60):
        noise = float(jax.random.normal(jax.random.fold_in(key, step)))
        gradient = w - (204 / 127.5 - 1 + noise)
        state, scalars = update(state, Batch(raw, tiny.labels([0, 0])), key)
        assert float(scalars["loss"]) == pytest.approx(gradient**2 / 2, rel=1e-4)
        assert float(scalars["grad_norm"]) == pytest.approx(abs(gradient), rel=1e-4)
        assert float(scalars["update_norm"]) == pytest.approx(abs(rate * gradient), rel=1e-4)
        w -= rate * gradient
        assert float(scalars["param_norm"]) == pytest.approx(abs(w), rel=1e-4)
        share = max(1 - decay, 9 / (11 + step))
        ema = (1 - share) * ema + share * w
        assert float(state["params"]["w"]) == pytest.approx(w, rel=1e-4)
        assert float(state["ema"]["w"]) == pytest.approx(ema, rel=1e-4)
        assert int(state["step"]) == step + 1


def made_network():
    return Network(network_of(tiny.params().model, (8, 8, 1), ConditionSpec.of_classes(10)))


def some_images():
    draws = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.int32) % 10
    return draws.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8), labels


def some_batch():
    pixels, labels = some_images()
    return Batch(pixels[:16], tiny.labels(labels[:16]))


@pytest.fixture(scope="module")
def run():
    dataset = stored.dataset(*some_images(), "0123456789")
    params = tiny.params()
    return params, tiny.base_run(params, made_network(), Loader(dataset, 16, params.seed))


def stepped(made, state, index):
    """The step of ``index`` on the batch that the run gives it."""
    return made.step(state, next(made.batches(index)), index)


def test_a_run_is_what_the_parameters_say(run):
    params, made = run
    assert made.steps == params.train.steps
    assert made.images_per_step == params.train.batch_size
    assert "train.optimiser.learning_rate" in made.cure


def test_a_run_has_a_batch_for_each_step_that_is_left(run):
    params, made = run
    for start in (0, 7, params.train.steps):
        batches = list(made.batches(start))
        assert len(batches) == params.train.steps - start
    (seventh,) = (batch for index, batch in enumerate(made.batches(0)) if index == 7)
    again = next(made.batches(7))
    assert (seventh.examples == again.examples).all()


def test_a_step_is_a_function_of_state_and_index(run):
    params, made = run
    state = jax.jit(made.init)()
    # A step gives its state's buffers away, so each gets its own.
    copies = [jax.tree.map(jnp.copy, state) for _ in range(3)]
    (first, one), (again, two), (other, _) = (
        stepped(made, copy, index) for copy, index in zip(copies, (0, 0, 1), strict=True)
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, again))
    assert float(one["loss"]) == float(two["loss"])
    assert float(one["learning_rate"]) == pytest.approx(
        params.train.optimiser.learning_rate / params.train.optimiser.warmup_steps, rel=1e-4
    )
    changed = first["params"]["patch_out/kernel"] != other["params"]["patch_out/kernel"]
    assert changed.any(), "another index is another batch"


def test_a_fresh_model_errs_by_the_noise_itself(run):
    """It predicts v = 0, so the expected loss is the weighted second moment of v, near 1 a pixel.

    v = α eps − σ x has E v² = α² + σ² E x² at each noise level.
    """
    params, made = run
    state = jax.jit(made.init)()
    _, scalars = stepped(made, state, 0)
    schedule = CosineInterpolated(8, params.diffusion.schedule.settings.noise_res_low)
    t = (np.arange(4000) + 0.5) / 4000
    level = schedule.logsnr_exact(t)
    slope = -np.gradient(level, t)
    bias = params.diffusion.loss.settings.bias
    weight = 0.5 * slope / (1 + np.exp(level - bias)) / (1 + np.exp(-level))
    alpha2 = 1 / (1 + np.exp(-level))
    uniform = 1 / 3 * (1 + 1 / 255)  # E x² of uniform bytes in [-1, 1], nearly
    expected = np.mean(weight * (alpha2 + (1 - alpha2) * uniform))
    assert float(scalars["loss"]) == pytest.approx(expected, rel=0.15)


def test_a_run_states_the_bias_where_it_moves(run):
    params, made = run
    _, scalars = stepped(made, jax.jit(made.init)(), 0)
    assert "bias" not in scalars
    net = made_network()
    begun = base.base_run(
        tiny.objective(params, net),
        params.train,
        Loader(stored.dataset(*some_images(), "0123456789"), 16, params.seed),
        params.seed,
        curves={"bias": TimeShiftedBias(-8.0, -3.0, 10)},
    )
    state, biases = begun.init(), []
    for index in (0, 4, 99):
        state, scalars = begun.step(state, some_batch(), index)
        biases.append(float(scalars["bias"]))
    assert biases == [-8.0, -6.0, -3.0]


def test_an_update_that_is_not_finite_is_skipped_and_the_next_one_taken(run):
    params, made = run
    state = jax.jit(made.init)()
    broken = jax.tree.map(jnp.copy, state)
    name = "patch_out/kernel"
    broken["params"][name] = broken["params"][name].at[0].set(jnp.inf)
    kept = jax.tree.map(jnp.copy, broken)
    after, scalars = stepped(made, broken, 0)
    assert int(scalars["skipped"]) == 1
    assert int(after["step"]) == 1
    assert same(after["params"], kept["params"])
    assert same(after["optimiser"], kept["optimiser"])
    after, scalars = stepped(made, after | {"params": state["params"]}, 1)
    assert int(scalars["skipped"]) == 0
    assert not same(after["params"], kept["params"])


def test_a_run_may_start_at_given_weights_and_keep_some(run, unchecked):
    """Those that are kept are the same to the last bit, in the average too."""
    params, made = run
    net = made_network()
    weights = jax.jit(net.init)(jax.random.key(7))
    before = jax.tree.map(np.array, weights)
    frozen = frozenset(name for name in weights if name.startswith("conditioning/"))
    begun = tiny.base_run(params, net, None, start=Start(weights, frozen))
    state = begun.init()
    assert same(state["params"], weights)
    assert same(state["ema"], weights)
    for index in range(3):
        state, scalars = begun.step(state, some_batch(), index)
    assert int(scalars["skipped"]) == 0
    for part in ("params", "ema"):
        moved = {name for name, value in state[part].items() if (value != before[name]).any()}
        assert not moved & frozen
        assert len(moved) > len(before) / 2
    assert same(weights, before), "the given weights outlive steps that give their state away"


def test_streams_of_initialisation_and_of_training_are_apart():
    assert (
        jax.random.key_data(rng.key(0, "init")) != jax.random.key_data(rng.key(0, "train"))
    ).any()
