"""On data whose posterior mean is known, with networks that are formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sid2core.data.load.loader import Batch, Loader
from sid2core.diffusion.guidance import (
    AutoGuidance,
    ConstantGuidance,
    IntervalGuidance,
    NoGuidance,
)
from sid2core.distillation import trainer
from sid2core.distillation.states import Step
from sid2core.distillation.teacher import Teacher
from tests import tiny
from tests.data import stored
from tests.distillation.gaussian import CAP, CLASSES, SCHEDULE, matching, params


def data(count=1024, seed=0):
    draws = np.random.default_rng(seed)
    x = jnp.asarray(draws.normal(0.2, 0.5, (count, 4, 4, 1)), jnp.float32)
    return x, tiny.labels(draws.integers(0, CLASSES, count))


def drawn(matching, student, key=0):
    """A step, and z_t with its log-SNR as the student was asked."""
    x, condition = data()
    step = draw(matching, student, x, condition, jax.random.key(key))
    return step, x, asked(matching)[-1]


def draw(matching, student, x, condition, key):
    states = matching.states
    return states.stepped(student, x, condition, states.drawn(x.shape, key))


def asked(matching):
    return matching.states.denoiser.network.asked


def weights(step, cap=CAP):
    return np.minimum(1 + np.exp(np.float64(step.logsnr_s)), cap)[:, None, None, None]


TEACHER = params(-0.6, 0.1, 0.7, 0.2, variance=0.3)
WEIGHTS = Teacher(TEACHER)
AUXILIARY = params(-0.2, 0.3, 0.4, 0.0, variance=0.2)
STUDENT = params(0.5, -0.3, 0.2, 0.1, variance=0.4)


def x_hat(params, z, logsnr, labels):
    """The Gaussian denoiser in float64."""
    alpha2 = (1 / (1 + np.exp(-np.float64(logsnr))))[:, None, None, None]
    mean = np.float64(params["mean"])[np.asarray(labels)][:, None, None, None]
    variance = float(params["variance"])
    gain = variance * np.sqrt(alpha2) / (variance * alpha2 + 1 - alpha2)
    return mean + gain * (np.float64(z) - np.sqrt(alpha2) * mean)


def teacher_mean(step, weight, low=-np.inf, high=np.inf):
    conditional = x_hat(TEACHER, step.z_s, step.logsnr_s, step.condition.label)
    null = np.full(len(step.z_s), CLASSES)
    unconditional = x_hat(TEACHER, step.z_s, step.logsnr_s, null)
    level = np.float64(step.logsnr_s)[:, None, None, None]
    guided = (1 + weight) * conditional - weight * unconditional
    return np.where((low < level) & (level < high), guided, conditional)


def test_the_student_stands_at_noised_data_and_says_its_mean():
    step, x, (z_t, logsnr_t, labels) = drawn(matching(), STUDENT)
    alpha2 = (1 / (1 + np.exp(-np.float64(logsnr_t))))[:, None, None, None]
    eps = (np.float64(z_t) - np.sqrt(alpha2) * np.float64(x)) / np.sqrt(1 - alpha2)
    # 5 deviations of mean and variance of 16,384 draws.
    assert eps.mean() == pytest.approx(0.0, abs=0.04)
    assert eps.var() == pytest.approx(1.0, abs=0.055)
    np.testing.assert_allclose(step.x_tilde, x_hat(STUDENT, z_t, logsnr_t, labels), atol=1e-4)


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_s_lies_up_to_one_step_of_the_student_before_t(steps):
    step, _, (_, logsnr_t, _) = drawn(matching(steps=steps), STUDENT)
    grid = np.linspace(0, 1, 200_001)
    levels = SCHEDULE.logsnr_exact(grid)
    t, s = (np.interp(-np.float64(level), -levels, grid) for level in (logsnr_t, step.logsnr_s))
    gap = t - s
    assert (gap >= -1e-4).all()
    assert (gap <= 1 / steps + 1e-4).all()
    inner = gap[s > 1e-3]
    # Uniform on (0, 1/k) where s is not cut off at 0; t and so the cut is independent of it.
    if steps > 1:
        assert inner.mean() == pytest.approx(0.5 / steps, rel=0.1)
        assert inner.std() == pytest.approx(1 / steps / np.sqrt(12), rel=0.1)


def test_z_s_is_drawn_from_the_posterior_given_z_t_and_what_the_student_said():
    """By the precisions of the two Gaussians it lies between, in float64."""
    step, _, (z_t, logsnr_t, _) = drawn(matching(), STUDENT)
    alpha_t2, alpha_s2 = (
        1 / (1 + np.exp(-np.float64(level)))[:, None, None, None]
        for level in (logsnr_t, step.logsnr_s)
    )
    ratio2 = alpha_t2 / alpha_s2
    between = (1 - alpha_t2) - ratio2 * (1 - alpha_s2)  # variance of z_t given z_s
    wide = between[:, 0, 0, 0] > 1e-4
    precision = 1 / (1 - alpha_s2) + ratio2 / between
    pull = np.sqrt(alpha_s2) * np.float64(step.x_tilde) / (1 - alpha_s2)
    mean = (pull + np.sqrt(ratio2) * np.float64(z_t) / between) / precision
    noise = ((np.float64(step.z_s) - mean) * np.sqrt(precision))[wide]
    assert wide.mean() > 0.9
    assert noise.mean() == pytest.approx(0.0, abs=0.03)
    assert noise.var() == pytest.approx(1.0, abs=0.04)
    scaled = noise.reshape(len(noise), -1)
    assert np.corrcoef(scaled.mean(axis=1), np.float64(logsnr_t)[wide])[0, 1] < 0.15


@pytest.mark.parametrize("guidance", [NoGuidance(), ConstantGuidance(1.5)])
def test_the_losses_are_their_formulas(guidance):
    made = matching(guidance)
    step, _, _ = drawn(made, STUDENT)
    mean = x_hat(AUXILIARY, step.z_s, step.logsnr_s, step.condition.label)
    target = teacher_mean(step, guidance.weight)
    x_tilde, w = np.float64(step.x_tilde), weights(step)
    auxiliary = np.mean(w * ((x_tilde - mean) ** 2 + (target - mean) ** 2))
    student = np.mean(w * x_tilde * (mean - target))
    assert float(made.auxiliary_loss(AUXILIARY, WEIGHTS, step)) == pytest.approx(auxiliary, 1e-4)
    assert float(made.student_loss(AUXILIARY, WEIGHTS, step)) == pytest.approx(student, 1e-3)


def test_the_teacher_is_guided_inside_its_interval_only():
    made = matching(IntervalGuidance(1.5, -2.0, 3.0))
    step, _, _ = drawn(made, STUDENT)
    found = made.teacher(WEIGHTS, step)
    np.testing.assert_allclose(found, teacher_mean(step, 1.5, -2.0, 3.0), atol=2e-4)
    inside = (np.asarray(step.logsnr_s) > -2) & (np.asarray(step.logsnr_s) < 3)
    assert 0.1 < inside.mean() < 0.9


def test_an_autoguided_teacher_is_pushed_away_from_the_worse_model():
    made = matching(AutoGuidance(1.5, -2.0, 3.0), worse=True)
    step, _, _ = drawn(made, STUDENT)
    level, label = np.asarray(step.logsnr_s), step.condition.label
    good, bad = (x_hat(one, step.z_s, step.logsnr_s, label) for one in (TEACHER, AUXILIARY))
    where = ((level > -2) & (level < 3))[:, None, None, None]
    found = made.teacher(Teacher(TEACHER, AUXILIARY), step)
    np.testing.assert_allclose(found, np.where(where, 2.5 * good - 1.5 * bad, good), atol=2e-4)


def test_the_weight_is_one_plus_snr_up_to_its_cap():
    """Constant networks: the mean of the loss over examples is the mean of the weights."""
    levels = jnp.array([-10.0, 0.0, 1.0, 2.19, 2.2, 5.0, 10.0])
    image = jnp.zeros((1, 2, 2, 1))
    made = matching(cap=10.0)
    for level in levels:
        step = Step(image + 1.0, image, level[None], tiny.labels([0]))
        loss = made.auxiliary_loss(params(0.0), Teacher(params(0.0)), step)
        assert float(loss) == pytest.approx(min(1 + np.exp(float(level)), 10.0), rel=1e-5)


def test_the_auxiliarys_optimum_is_midway_between_student_and_teacher():
    """∂/∂m mean w ((x~ − m)² + (g − m)²) = 0 at m = mean w (x~ + g) / 2 mean w."""
    made = matching()
    step, _, _ = drawn(made, STUDENT)
    w, target = weights(step), teacher_mean(step, 0.0)
    optimum = float(np.mean(w * (np.float64(step.x_tilde) + target)) / np.mean(w) / 2)

    def slope(mean):
        gradient = jax.grad(made.auxiliary_loss)(params(mean), WEIGHTS, step)
        return float(gradient["mean"].sum())

    assert slope(optimum) == pytest.approx(0.0, abs=1e-4)
    assert slope(optimum + 0.1) == pytest.approx(4 * 0.1 * float(np.mean(w)), rel=1e-3)
    assert slope(optimum - 0.1) == pytest.approx(-4 * 0.1 * float(np.mean(w)), rel=1e-3)


def test_the_students_gradient_is_the_difference_of_the_means():
    """Constant networks: d/dm mean w x~ (g_phi − g_theta), with x~ = m, is mean w (m_phi − m_θ)."""
    made = matching()
    x, condition = data()

    def loss(student):
        step = draw(made, student, x, condition, jax.random.key(0))
        return made.student_loss(params(0.4), Teacher(params(-0.1)), step)

    step = draw(made, params(0.9), x, condition, jax.random.key(0))
    slope = float(jax.grad(loss)(params(0.9))["mean"].sum())
    assert slope == pytest.approx(float(np.mean(weights(step))) * 0.5, rel=1e-4)


def test_nothing_flows_back_through_z_s():
    """The gradient is that of x~ alone, with z_s and what is seen there held fixed."""
    made = matching()
    x, condition = data()

    def full(student):
        step = draw(made, student, x, condition, jax.random.key(0))
        return made.student_loss(AUXILIARY, WEIGHTS, step)

    fixed = draw(made, STUDENT, x, condition, jax.random.key(0))
    z_t, logsnr_t, _ = asked(made)[-1]
    direction = x_hat(AUXILIARY, fixed.z_s, fixed.logsnr_s, condition.label) - teacher_mean(
        fixed, 0.0
    )
    scaled = jnp.asarray(weights(fixed) * direction, jnp.float32)

    def alone(student):
        return jnp.mean(made.states.denoiser(student, z_t, logsnr_t, condition) * scaled)

    found, expected = jax.grad(full)(STUDENT), jax.grad(alone)(STUDENT)
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["variance"], expected["variance"], rtol=1e-3, atol=1e-5)
    moved = jax.jacfwd(lambda s: draw(made, s, x, condition, jax.random.key(0)).z_s)(STUDENT)
    assert all((value == 0).all() for value in moved.values())


def test_the_students_loss_moves_neither_teacher_nor_auxiliary():
    made = matching(ConstantGuidance(1.0))
    step, _, _ = drawn(made, STUDENT)
    for number, name in enumerate(("auxiliary", "teacher")):
        gradient = jax.grad(made.student_loss, argnums=number)(AUXILIARY, WEIGHTS, step)
        assert all((value == 0).all() for value in jax.tree.leaves(gradient)), name


MADE = matching()

SGD = optax.multi_transform(
    {"moves": optax.sgd(0.05), "stays": optax.set_to_zero()},
    {"mean": "moves", "variance": "stays"},
)
"""Gradient descent on the means: at variance 0 the networks are constant, and stay so."""


def stepper(made, chain=SGD, decay=0.9):
    return jax.jit(partial(trainer.update, form=made, chain=chain, ema_decay=decay))


def batches(seed=0, count=32):
    draws = np.random.default_rng(seed)
    return tuple(
        Batch(
            draws.integers(0, 256, (count, 2, 2, 1)).astype(np.uint8),
            tiny.labels(draws.integers(0, CLASSES, count)),
        )
        for _ in range(2)
    )


def test_an_update_is_one_step_of_the_auxiliary_then_one_of_the_student():
    """Constant networks, plain gradient descent: every number by hand."""
    made = matching()
    theta, start = 0.5, -0.4
    state = trainer.initial_state(MADE, params(start), SGD)
    new, scalars = trainer.update(
        state,
        Teacher(params(theta)),
        jax.tree.map(jnp.asarray, batches()),
        jax.random.key(0),
        form=made,
        chain=SGD,
        ema_decay=0.9,
    )
    # In order: the student at z_t, the auxiliary and the teacher at z_s; then again.
    seen = asked(made)
    share_a, share_s = (
        np.array([np.sum(weight[labels == one]) for one in range(CLASSES + 1)]) / len(labels)
        for weight, labels in (
            (np.minimum(1 + np.exp(np.float64(seen[place][1])), CAP), np.asarray(seen[place][2]))
            for place in (1, 4)
        )
    )
    auxiliary = start - 0.05 * 2 * share_a * (start - theta)
    student = start - 0.05 * share_s * (auxiliary - theta)
    np.testing.assert_allclose(new["auxiliary"]["mean"], auxiliary, rtol=1e-4)
    np.testing.assert_allclose(new["student"]["mean"], student, rtol=1e-4)
    share = 9 / 11  # the warm-up of the decay, at the first update
    np.testing.assert_allclose(new["ema"]["mean"], (1 - share) * start + share * student, rtol=1e-4)
    loss = np.sum(share_a) * (start - theta) ** 2
    assert float(scalars["loss"]) == pytest.approx(loss, rel=1e-4)
    assert float(scalars["loss_student"]) == pytest.approx(
        np.sum(share_s * start * (auxiliary - theta)), rel=1e-4
    )
    assert int(new["step"]) == 1
    assert int(state["step"]) == 0


def test_the_student_learns_the_means_of_the_guided_teacher():
    """m = (1 + g) m_class − g m_none: what the teacher needs two evaluations for, in one."""
    made = matching(ConstantGuidance(0.5))
    teacher = params(-0.6, 0.1, 0.7, 0.2)
    state, step = trainer.initial_state(MADE, teacher, SGD), stepper(made)
    for index in range(300):
        state, scalars = step(state, Teacher(teacher), batches(index), jax.random.key(1))
    guided = 1.5 * np.array([-0.6, 0.1, 0.7]) - 0.5 * 0.2
    np.testing.assert_allclose(state["ema"]["mean"][:CLASSES], guided, atol=1e-3)
    np.testing.assert_allclose(state["auxiliary"]["mean"][:CLASSES], guided, atol=1e-3)
    assert float(scalars["loss"]) < 1e-5
    assert state["student"]["mean"][CLASSES] == pytest.approx(0.2), "no class is never asked for"


def test_an_update_is_a_function_of_its_arguments():
    step = stepper(matching(ConstantGuidance(1.0)))
    state = trainer.initial_state(MADE, STUDENT, SGD)

    def after(key, seed, state=state):
        return step(state, WEIGHTS, batches(seed), jax.random.key(key))[0]["student"]["mean"]

    assert (after(0, 0) == after(0, 0)).all()
    assert (after(0, 0) != after(1, 0)).any()
    assert (after(0, 0) != after(0, 1)).any()
    assert (after(0, 0) != after(0, 0, state | {"step": jnp.int32(1)})).any(), "noise of its step"


def test_all_three_start_as_the_teacher_in_buffers_of_their_own():
    state = trainer.initial_state(MADE, TEACHER, SGD)
    for name in ("student", "ema", "auxiliary"):
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state[name], TEACHER))
    pointers = {
        name: state[name]["mean"].unsafe_buffer_pointer()
        for name in ("student", "ema", "auxiliary")
    }
    assert len({*pointers.values(), TEACHER["mean"].unsafe_buffer_pointer()}) == 4


def test_a_run_leaves_the_teacher_as_it_was():
    """Its weights outlive steps that give their state's buffers away."""
    settings = tiny.params().distill
    images, condition = batches(count=20)[0]
    dataset = stored.dataset(images, condition.label, "abc")
    loader, teacher = Loader(dataset, settings.batch_size, 0), params(-0.6, 0.1, 0.7, 0.2)
    before = np.array(teacher["mean"])
    made = matching(ConstantGuidance(1.0), steps=2)
    run = trainer.distillation_run(settings, made, Teacher(teacher), loader, seed=0)
    assert (run.name, run.steps) == ("student_2", settings.iterations)
    assert run.images_per_step == 2 * settings.batch_size
    state = run.init()
    for index, pair in zip(range(2), run.batches(0), strict=False):
        state, scalars = run.step(state, pair, index)
    assert set(scalars) == {
        "loss",
        "loss_student",
        "grad_norm_auxiliary",
        "grad_norm_student",
        "param_norm_student",
        "param_norm_auxiliary",
        "update_norm_auxiliary",
        "learning_rate",
        "update_norm_student",
        "skipped",
    }
    assert all(jnp.isfinite(value) for value in scalars.values())
    assert (state["auxiliary"]["mean"] != before).any()
    assert (np.asarray(teacher["mean"]) == before).all()
    assert (run.init()["student"]["mean"] == before).all()


def tiny_run():
    """A run on 20 images, and its loader."""
    settings = tiny.params().distill
    images, condition = batches(count=20)[0]
    loader = Loader(stored.dataset(images, condition.label, "abc"), settings.batch_size, 0)
    made = matching(ConstantGuidance(1.0), steps=2)
    teacher = Teacher(params(0.1, 0.1, 0.1, 0.1))
    return trainer.distillation_run(settings, made, teacher, loader, 0), loader


@pytest.mark.parametrize("broken", ["auxiliary", "student"])
def test_an_iteration_that_is_not_finite_is_skipped(broken):
    run, _ = tiny_run()
    state = run.init()
    state[broken] = params(0.1, jnp.nan, 0.1, 0.1)
    before = jax.tree.map(np.array, state)
    after, scalars = run.step(state, next(run.batches(0)), 0)
    assert int(scalars["skipped"]) == int(after["skipped"]) == 1
    assert int(after["step"]) == 1
    for name in set(before) - {"step", "skipped"}:
        jax.tree.map(np.testing.assert_array_equal, after[name], before[name])


@pytest.mark.parametrize("start", [0, 3])
def test_an_iteration_takes_two_batches_that_no_other_takes(start):
    run, loader = tiny_run()
    pairs = list(run.batches(start))
    assert len(pairs) == run.steps - start
    for index, pair in enumerate(pairs, start):
        for which, batch in enumerate(pair):
            assert (batch.examples == loader.batch(2 * index + which).examples).all()
