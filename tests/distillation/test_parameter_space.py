"""The parameter-space form: its formulas, and the alternating form as its neighbour."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from sid2core.diffusion.guidance import ConstantGuidance, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.distillation.alternating import Alternating
from sid2core.distillation.parameter_space import ParameterSpace
from sid2core.distillation.protocol import Half
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.inference.denoiser import Denoiser
from sid2core.models.network import Network
from sid2core.training.mesh import ONE_DEVICE
from tests.distillation.gaussian import CAP, CLASSES, SCHEDULE, Gaussian, params
from tests.distillation.test_alternating import AUXILIARY, STUDENT, TEACHER, WEIGHTS, data, weights

DENOISER = Denoiser(Gaussian(), Prediction.X)
CHAIN = optax.sgd(0.05)
NU = params(0.3, -0.2, 0.1, 0.4, variance=0.05)


def form(guidance=None, denoiser=DENOISER, **changes):
    states = States(denoiser, SCHEDULE, 4)
    return ParameterSpace(states, Guided(denoiser, guidance or NoGuidance()), CAP, **changes)


def stepped(made, student=STUDENT, seed=0, count=256):
    x, condition = data(count, seed)
    draws = made.states.drawn(x.shape, jax.random.key(seed))
    return made.states.stepped(student, x, condition, draws)


@pytest.mark.parametrize("guidance", [NoGuidance(), ConstantGuidance(1.0)])
def test_the_teachers_loss_and_its_gradient(guidance):
    """Guided it errs by its guided estimate, and the conditional network alone is moved."""
    made = form(guidance)
    step = stepped(made)
    error = np.float64(made.teacher(WEIGHTS, step)) - np.float64(step.x_tilde)
    loss, gradient = jax.value_and_grad(made.teacher_loss)(TEACHER, WEIGHTS, step)
    assert float(loss) == pytest.approx(np.mean(weights(step) * error**2), rel=1e-4)
    _, pulled = jax.vjp(lambda one: made.teacher.plain(one, step), TEACHER)
    (expected,) = pulled(jnp.asarray(2 * weights(step) * error / error.size, jnp.float32))
    for name, value in expected.items():
        np.testing.assert_allclose(gradient[name], value, rtol=2e-3, atol=1e-5)


def test_the_students_loss_is_its_formula():
    """J nu by a difference of two estimates, in the Gaussian denoiser."""
    made = form()
    step = stepped(made)
    h = 1e-2
    ahead, back = (
        np.float64(
            made.teacher.plain(jax.tree.map(lambda a, b, by=by: a + by * b, TEACHER, NU), step)
        )
        for by in (h, -h)
    )
    expected = np.mean(weights(step) * np.float64(step.x_tilde) * (ahead - back) / (2 * h))
    assert float(made.student_loss(NU, WEIGHTS, step)) == pytest.approx(expected, rel=1e-2)


def test_the_students_loss_moves_neither_teacher_nor_direction():
    made = form()
    step = stepped(made)
    for number in (0, 1):
        gradient = jax.grad(made.student_loss, argnums=number)(NU, WEIGHTS, step)
        assert all((value == 0).all() for value in jax.tree.leaves(gradient)), number


@pytest.mark.parametrize("preconditioner", ["identity", "adam"])
def test_the_direction_is_the_scaled_gradient(preconditioner):
    """Adam's is corrected for its start: the first direction has the sign of the gradient alone."""
    made = form(preconditioner=preconditioner, adam_b2=0.9)
    state = made.initial(TEACHER, {}, CHAIN)
    first, second = (
        {"mean": jnp.full(4, value), "variance": jnp.float32(0)} for value in (2.0, 1.0)
    )
    half = Fixed(first)
    found = made.judged(state, WEIGHTS, half, CHAIN)
    then = made.judged(found.state, WEIGHTS, Fixed(second), CHAIN)
    moment = (0.9 * 0.1 * 4.0 + 0.1 * 1.0) / (1 - 0.9**2)
    one, two = (1.0, 1.0 / moment**0.5) if preconditioner == "adam" else (2.0, 1.0)
    np.testing.assert_allclose(found.critic["mean"], -one, rtol=1e-5)
    np.testing.assert_allclose(then.critic["mean"], -two, rtol=1e-5)
    assert float(found.scalars["grad_norm_teacher"]) == pytest.approx(4.0)


class Fixed(Half):
    """A batch whose gradient is known."""

    def __init__(self, gradient):
        object.__setattr__(self, "found", gradient)
        object.__setattr__(self, "layout", ONE_DEVICE)

    def gradient(self, loss, weights):
        return jnp.float32(1.0), self.found


BINS = 8
EDGES = np.linspace(-10.0, 10.0, BINS + 1)[1:-1]


@dataclass(frozen=True)
class Bins(Network):
    """x_hat = z / 2 + scale theta in each cell: a class and an interval of log-SNR."""

    scale: tuple = (1.0,) * BINS * CLASSES
    config: object = Gaussian().config

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        here = cells(logsnr, condition.label)
        shift = jnp.asarray(self.scale, jnp.float32)[here] * params["theta"][here]
        return z / 2 + shift[:, None, None, None]


def cells(logsnr, labels):
    return labels * BINS + jnp.searchsorted(jnp.asarray(EDGES, jnp.float32), logsnr)


def test_it_is_the_alternating_form_at_a_converged_auxiliary():
    """With scales for which the auxiliary's error has the Hessian 4 I, so that P = I is Newton's.

    The auxiliary ends at half the way from the teacher to the student's mean; nu leads there.
    """
    draws = np.random.default_rng(0)
    theta = {"theta": jnp.asarray(draws.normal(size=BINS * CLASSES), jnp.float32)}
    student = {"theta": jnp.asarray(draws.normal(size=BINS * CLASSES), jnp.float32)}
    plain = Denoiser(Bins(), Prediction.X)
    step = stepped(form(denoiser=plain), student, count=2048)
    weight = np.minimum(1 + np.exp(np.float64(step.logsnr_s)), CAP) / len(step.x_tilde)
    found = np.bincount(cells(step.logsnr_s, step.condition.label), weight, BINS * CLASSES)
    scale = tuple(np.where(found > 0, np.maximum(found, 1e-9) ** -0.5, 0.0).tolist())

    made = form(denoiser=Denoiser(Bins(scale=scale), Prediction.X))
    step = stepped(made, student, count=2048)
    alternating = Alternating(made.states, made.teacher, CAP)
    descend = jax.jit(jax.grad(lambda phi: alternating.auxiliary_loss(phi, Teacher(theta), step)))
    phi = theta
    for _ in range(60):
        phi = jax.tree.map(lambda one, by: one - 0.2 * by, phi, descend(phi))
    nu = jax.tree.map(jnp.negative, jax.grad(made.teacher_loss)(theta, Teacher(theta), step))

    def gradient(loss, critic):
        x, condition = data(2048, seed=1)
        draws = made.states.drawn(x.shape, jax.random.key(1))

        def of_student(weights):
            return loss(critic, Teacher(theta), made.states.stepped(weights, x, condition, draws))

        return np.float64(jax.grad(of_student)(student)["theta"])

    one, two = gradient(alternating.student_loss, phi), gradient(made.student_loss, nu)
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert np.rad2deg(np.arccos(min(cosine, 1.0))) < 2
    assert np.linalg.norm(one) > 0.1


@pytest.mark.parametrize(
    "guidance", [NoGuidance(), pytest.param(ConstantGuidance(1.0), marks=pytest.mark.slow)]
)
def test_gradients_are_finite_differences_in_float64(guidance):
    """Of the losses in what they move: the auxiliary, the teacher's parameters, x~."""
    made = form(guidance)
    alternating = Alternating(made.states, made.teacher, CAP)
    step = stepped(made, count=16)
    with jax.enable_x64(True):
        step, auxiliary, teacher, nu = jax.tree.map(
            lambda one: one if one.dtype == jnp.int32 else jnp.asarray(one, jnp.float64),
            (step, AUXILIARY, WEIGHTS, NU),
        )

        def in_x(loss, critic):
            return lambda x_tilde: loss(critic, teacher, step._replace(x_tilde=x_tilde))

        losses = [
            (lambda one: alternating.auxiliary_loss(one, teacher, step), auxiliary),
            (in_x(alternating.student_loss, auxiliary), step.x_tilde),
            (in_x(made.student_loss, nu), step.x_tilde),
        ]
        if guidance.weight == 0.0:  # guided, the push is held fixed in the gradient
            losses.append((lambda one: made.teacher_loss(one, teacher, step), teacher.params))
        for loss, at in losses:
            made_of = arrays_of(loss)
            check_grads(made_of, (at,), order=1, modes=["rev"], atol=1e-7, rtol=1e-7, eps=1e-5)


def arrays_of(loss):
    """The loss of JAX's arrays: differences are made of NumPy's."""
    return lambda one: loss(jax.tree.map(jnp.asarray, one))
