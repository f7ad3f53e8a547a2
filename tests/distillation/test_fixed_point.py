"""Gaussian data with exact denoisers and linear students: where the alternating form ends.

One pixel, x ~ N(m, v). At each time of its grid the student says x~ = m + a (z_t − alpha_t m), so
x~, z_t and z_s are jointly Gaussian, and E[x~ | z_s] is linear in z_s with a slope that is a
formula of a. At the fixed point it is the teacher's on average, seen from z_t:

    E_s[ w(s) ( slope(s; a) − tau(s) ) cov(z_s, z_t) ] = 0
    tau = alpha_s v / (alpha_s² v + sigma_s²)

Expectations over Gaussians of quadratic functions are exact with ± one deviation of each variable,
so the batch is a quadrature, and nothing is random.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq

from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.loader import Batch
from sid2core.diffusion.guidance import NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import Cosine
from sid2core.distillation import trainer
from sid2core.distillation.alternating import Alternating
from sid2core.distillation.states import Draws, States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.inference.denoiser import Denoiser
from sid2core.models.network import Network

SCHEDULE = Cosine(-16.0, 16.0)
"""At t = 1 nothing is left of the image."""
LOW, HIGH = 76, 204
M, DEVIATION = (LOW + HIGH) / 255 - 1, (HIGH - LOW) / 255
V, CAP, NODES = DEVIATION**2, 10.0, 24
SIGNS = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1)


@dataclass(frozen=True)
class Shape:
    condition: ConditionSpec = ConditionSpec()


@dataclass(frozen=True)
class Table(Network):
    """x_hat = slope z + offset, with numbers of their own at each of ``levels``, ascending."""

    levels: tuple = ()
    config: Shape = Shape()

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        middles = (np.array(self.levels[1:]) + np.array(self.levels[:-1])) / 2
        node = jnp.searchsorted(jnp.asarray(middles, jnp.float32), logsnr)
        slope, offset = (params[name][node][:, None, None, None] for name in ("slope", "offset"))
        return slope * z + offset


@dataclass(frozen=True)
class Quadrature(States):
    """Each t of the grid, each s of its midpoints, each sign of x, eps and noise once."""

    def drawn(self, shape, key):
        t, s, signs = rows(self.steps)
        column = [jnp.asarray(one, jnp.float32)[:, None, None, None] for one in signs[1:]]
        return Draws(jnp.float32(t), jnp.float32(s), *column)


def rows(steps):
    t = np.repeat(np.arange(1, steps + 1) / steps, NODES)
    s = t - np.tile((np.arange(NODES) + 0.5) / NODES, steps) / steps
    each = SIGNS.shape[1]
    return np.repeat(t, each), np.repeat(s, each), np.tile(SIGNS, len(t))


def coefficients(t):
    lam = SCHEDULE.logsnr_exact(np.atleast_1d(np.float64(t)))
    return np.sqrt(1 / (1 + np.exp(-lam))), np.sqrt(1 / (1 + np.exp(lam))), lam


def posterior(t, s):
    """z_s = keep z_t + pull x~ + spread noise."""
    (alpha_t, _, lam_t), (alpha_s, sigma_s, lam_s) = coefficients(t), coefficients(s)
    r = np.exp(lam_t - lam_s)
    return r * alpha_s / alpha_t, (1 - r) * alpha_s, np.sqrt(1 - r) * sigma_s


def mismatch(a, t, steps, nodes=400):
    """The equation of the fixed point at t, in the slope a."""
    s = t - (np.arange(nodes) + 0.5) / nodes / steps
    keep, pull, spread = posterior(t, s)
    (alpha_t, sigma_t, _), (alpha_s, sigma_s, lam_s) = coefficients(t), coefficients(s)
    total, wide = keep + pull * a, alpha_t**2 * V + sigma_t**2
    slope = total * a * wide / (total**2 * wide + spread**2)
    tau = alpha_s * V / (alpha_s**2 * V + sigma_s**2)
    return np.mean(np.minimum(1 + np.exp(lam_s), CAP) * (slope - tau) * total * wide)


def images(slopes, offsets):
    """Mean and variance of what ``len(slopes)`` steps draw from noise; t = 1 comes last."""
    steps, mean, variance = len(slopes), 0.0, 1.0
    for i in range(steps, 1, -1):
        keep, pull, spread = posterior(i / steps, (i - 1) / steps)
        total = keep + pull * slopes[i - 1]
        mean = total * mean + pull * offsets[i - 1]
        variance = total**2 * variance + spread**2
    return tuple(np.ravel((slopes[0] * mean + offsets[0], slopes[0] ** 2 * variance)))


def distilled(steps, iterations=1500):
    """The student's slopes and offsets after so many updates, for t = 1/k, 2/k, … 1."""
    t, s, signs = rows(steps)
    grid = np.arange(1, steps + 1) / steps
    nodes = np.unique(np.concatenate([s, grid]))[::-1]
    alpha, sigma, levels = coefficients(nodes)
    slope = alpha * V / (alpha**2 * V + sigma**2)
    exact = {"slope": slope, "offset": M - slope * alpha * M}
    teacher = jax.tree.map(jnp.float32, exact)
    ours = np.isin(nodes, grid)
    weight = np.minimum(1 + np.exp(levels), CAP)
    rate = np.where(ours, 0.1 * steps / CAP, 0.2 * steps * NODES / weight)
    chain = optax.stateless(
        lambda tree, _: jax.tree.map(lambda one: -jnp.float32(rate) * one, tree)
    )
    denoiser = Denoiser(Table(levels=tuple(levels)), Prediction.X)
    form = Alternating(
        Quadrature(denoiser, SCHEDULE, steps, times="grid"), Guided(denoiser, NoGuidance()), CAP
    )
    pixels = np.where(signs[0] > 0, HIGH, LOW).astype(np.uint8)[:, None, None, None]
    batch = Batch(jnp.asarray(pixels), Condition())
    update = partial(trainer.update, form=form, chain=chain, ema_decay=0.9)

    def body(state, _):
        return update(state, Teacher(teacher), (batch, batch), jax.random.key(0))[0], None

    first = trainer.initial_state(form, teacher, chain)
    state, _ = jax.jit(lambda one: jax.lax.scan(body, one, length=iterations))(first)
    return tuple(np.float64(state["student"][name])[ours][::-1] for name in ("slope", "offset"))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_alternating_form_ends_where_the_conditional_means_are_the_teachers(steps):
    grid = np.arange(1, steps + 1) / steps
    slopes = np.array([brentq(mismatch, 0.0, 5.0, args=(t, steps)) for t in grid])
    expected = images(slopes, M - slopes * coefficients(grid)[0] * M)
    mean, variance = images(*distilled(steps))
    assert mean == pytest.approx(expected[0], rel=0.01)
    assert variance == pytest.approx(expected[1], rel=0.01)
    if steps == 1:
        assert expected == pytest.approx((M, V), rel=1e-3), "one step draws the data exactly"
