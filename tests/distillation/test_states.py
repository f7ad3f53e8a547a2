"""The options of the states: where the student stands, at which times, and how it steps."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.diffusion import parametrisation, samplers
from sid2core.distillation.states import Draws, States, with_dropout
from sid2core.inference.denoiser import Denoiser
from tests import tiny
from tests.distillation.gaussian import CLASSES, SCHEDULE, Gaussian, params
from tests.distillation.test_alternating import data

DENOISER = Denoiser(Gaussian(), parametrisation.Prediction.X)
SHAPE = (1024, 4, 4, 1)
STUDENT = params(0.5, -0.3, 0.2, 0.1, variance=0.4)


@dataclass(frozen=True)
class SimpleShape:
    dropout: tuple


def states(steps=4, **options):
    return States(DENOISER, SCHEDULE, steps, **options)


def levels(t):
    return SCHEDULE.logsnr_exact(np.float64(t))


@pytest.mark.parametrize("source", ["data", "rollout"])
def test_the_defaults_draw_what_was_always_drawn(source):
    """From the first four keys, in this order; a roll-out has keys of its own beside them."""
    key = jax.random.key(3)
    keys = jax.random.split(key, 4)
    t = np.mod(
        np.float32(jax.random.uniform(keys[0])) + np.arange(8, dtype=np.float32) / np.float32(8), 1
    )
    draws = states(source=source).drawn((8, 2, 2, 1), key)
    np.testing.assert_array_equal(draws.t, t)
    gap = np.asarray(jax.random.uniform(keys[1], (8,))) / np.float32(4)
    np.testing.assert_array_equal(draws.s, np.maximum(t - gap, 0))
    for found, one in ((draws.eps, keys[2]), (draws.noise, keys[3])):
        np.testing.assert_array_equal(found, jax.random.normal(one, (32,)).reshape(8, 2, 2, 1))
    assert (draws.rollout is None) is (source == "data")


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_on_the_grid_each_step_of_the_student_comes_as_often(steps):
    draws = states(steps, times="grid").drawn(SHAPE, jax.random.key(0))
    values, counts = np.unique(np.asarray(draws.t), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, steps + 1, dtype=np.float32) / steps)
    assert (counts == SHAPE[0] / steps).all()
    gap = np.asarray(draws.t - draws.s)
    assert gap.min() >= 0
    assert gap.max() <= 1 / steps + 1e-6
    assert gap.mean() == pytest.approx(0.5 / steps, rel=0.1)


@pytest.mark.parametrize("times", ["continuous", "grid"])
def test_times_uniform_in_log_snr(times):
    """t over the whole range, s within one step of the student; the grid itself stays."""
    draws = states(4, times=times, density="logsnr").drawn(SHAPE, jax.random.key(1))
    t, s = np.float64(draws.t), np.float64(draws.s)
    if times == "continuous":
        ends = levels([1.0, 0.0])
        share = np.sort((levels(t) - ends[0]) / (ends[1] - ends[0]))
        np.testing.assert_allclose(share, (np.arange(1024) + 0.5) / 1024, atol=2e-3)
    else:
        assert set(np.unique(t)) == {0.25, 0.5, 0.75, 1.0}
    early = levels(np.maximum(t - 0.25, 0))
    share = (levels(s) - levels(t)) / (early - levels(t))
    wide = early - levels(t) > 0.5
    assert wide.mean() > 0.9
    assert share[wide].min() > -0.01
    assert share[wide].max() < 1.01
    # 5 deviations of the mean and of the variance of about 1,000 uniform numbers.
    assert share[wide].mean() == pytest.approx(1 / 2, abs=5 * 0.29 / 30)
    assert share[wide].var() == pytest.approx(1 / 12, rel=0.15)


@pytest.mark.parametrize("times", ["continuous", "grid"])
def test_a_deterministic_rollout_of_a_constant_student_is_a_line(times):
    """DDIM with x_hat = m: z_t = alpha_t m + sigma_t (z_1 − alpha_1 m) / sigma_1."""
    made = states(4, source="rollout", times=times, eta=0.0)
    draws, condition = made.drawn((64, 2, 2, 1), jax.random.key(2)), tiny.labels([1] * 64)
    found = made.rolled_out(params(0.6), condition, draws)
    (alpha, sigma), (alpha_1, sigma_1) = (
        parametrisation.alpha_sigma(jnp.float32(levels(one)))
        for one in (np.asarray(draws.t), np.ones(1))
    )
    eps = (draws.eps - float(alpha_1[0]) * 0.6) / float(sigma_1[0])
    alpha, sigma = (parametrisation.per_example(one, eps) for one in (alpha, sigma))
    np.testing.assert_allclose(found, alpha * 0.6 + sigma * eps, atol=2e-4)


def test_an_ancestral_rollout_of_a_constant_student_has_the_marginal_of_its_images():
    """z_t ~ N(alpha_t m, sigma_t²), with noise of its own in every step and example."""
    made = states(4, source="rollout", times="grid")
    draws = made.drawn(SHAPE, jax.random.key(2))
    condition = tiny.labels([0] * SHAPE[0])
    z = made.rolled_out(params(0.6), condition, draws)
    level = parametrisation.alpha_sigma(jnp.float32(levels(np.asarray(draws.t))))
    alpha, sigma = (parametrisation.per_example(one, z) for one in level)
    noise = np.float64((z - alpha * 0.6) / sigma)
    assert noise.mean() == pytest.approx(0.0, abs=0.05)
    assert noise.var() == pytest.approx(1.0, abs=0.06)
    first = draws._replace(t=jnp.ones_like(draws.t))
    assert (made.rolled_out(params(0.6), condition, first) == draws.eps).all(), "no step yet"
    moved = np.abs(np.corrcoef(noise[:, :, :, 0].reshape(len(noise), -1)[:64]))
    assert np.sort(moved.ravel())[-65] < 1, "no two examples share their noise"


def test_a_rollout_takes_the_students_steps():
    """Against the steps one by one, as sampling takes them."""
    made = states(3, source="rollout", times="grid", eta=0.5)
    draws, condition = made.drawn((6, 2, 2, 1), jax.random.key(4)), tiny.labels([0, 1, 2] * 2)
    draws = draws._replace(t=jnp.full((6,), 1 / 3, jnp.float32))
    z, sampler = draws.eps, samplers.Posterior(0.5)
    for index in range(2):
        pair = (SCHEDULE.logsnr(jnp.full((6,), 1 - done / 3)) for done in (index, index + 1))
        logsnr_t, logsnr_s = pair
        noise = jnp.stack(
            [
                jax.random.normal(jax.random.fold_in(key, index), (4,)).reshape(2, 2, 1)
                for key in draws.rollout
            ]
        )
        x_hat = DENOISER(STUDENT, z, logsnr_t, condition)
        z, _ = sampler.step(z, x_hat, (), samplers.Step(logsnr_t, logsnr_s, noise))
    np.testing.assert_allclose(made.rolled_out(STUDENT, condition, draws), z, atol=1e-5)


def test_a_rollout_needs_no_images_and_nothing_flows_back_through_it():
    made = states(source="rollout")
    x, condition = data(32)
    draws = made.drawn(x.shape, jax.random.key(0))
    step = made.stepped(STUDENT, jnp.full_like(x, jnp.nan), condition, draws)
    assert jnp.isfinite(step.x_tilde).all()
    gradient = jax.grad(lambda student: made.rolled_out(student, condition, draws).sum())(STUDENT)
    assert all((value == 0).all() for value in gradient.values())


@pytest.mark.parametrize("source", ["data", "rollout"])
def test_nothing_flows_back_through_z_s(source):
    made, (x, condition) = states(source=source, eta=0.5), data(32)
    draws = made.drawn(x.shape, jax.random.key(0))
    gradient = jax.grad(lambda one: made.stepped(one, x, condition, draws).z_s.sum())(STUDENT)
    assert all((value == 0).all() for value in gradient.values())
    moved = jax.grad(lambda one: made.stepped(one, x, condition, draws).x_tilde.sum())(STUDENT)
    assert float(jnp.abs(moved["mean"]).min()) == 0.0, f"class {CLASSES} is none"
    assert float(jnp.abs(moved["mean"][:CLASSES]).min()) > 0


@pytest.mark.parametrize(
    ("levels", "expected"), [((0.0, 0.1, 0.2), (0.0, 0.3, 0.3)), ((0.0, 0.0), (0.3, 0.3))]
)
def test_dropout_of_the_student_is_in_the_levels_that_have_some(levels, expected):
    net = Gaussian(SimpleShape(levels))
    changed = with_dropout(Denoiser(net, parametrisation.Prediction.V), 0.3).network
    assert changed.config.dropout == expected
    assert net.config.dropout == levels


def test_a_draw_is_of_arrays_that_can_be_divided_into_parts():
    draws = states(source="rollout").drawn((8, 2, 2, 1), jax.random.key(0))
    assert isinstance(draws, Draws)
    assert {one.shape[0] for one in jax.tree.leaves(draws)} == {8}
