"""The loss of a model that is given the first frames of a clip; the network is a formula."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.conditioning import Condition, ConditionSpec, Given
from sid2core.models.network import Network
from sid2core.models.uvit import after
from sid2core.training import base
from tests import tiny

GIVEN, SHAPE, STEP = 2, (5, 4, 4, 1), jnp.int32(0)
SPEC = ConditionSpec().with_given(GIVEN, SHAPE)
CONFIG = replace(tiny.Affine().config, image_shape=SPEC.modelled(SHAPE), condition=SPEC)


@dataclass(frozen=True)
class Mean(Network):
    """scale · z + shift · the mean of the given frames."""

    def apply(self, params, z, logsnr, condition, dropout_key=None):
        seen = after(condition.given, z)[:, :GIVEN, ..., :1].mean(axis=1, keepdims=True)
        return params["scale"] * z + params["shift"] * seen


def loss(shift, given_dropout=None, frames=0):
    """The loss and its gradient; ``frames`` chooses the given frames, x stays the same."""
    draws = np.random.default_rng(frames)
    given = draws.integers(0, 256, (4, GIVEN, *SHAPE[1:]), np.uint8)
    condition = Condition(given=Given(jnp.asarray(given), jnp.ones(4, bool)))
    x = jnp.asarray(np.random.default_rng(9).uniform(-1, 1, (4, *CONFIG.image_shape)), jnp.float32)
    objective = base.objective_of(
        tiny.params().diffusion, Mean(CONFIG), 0.0, given_dropout=given_dropout
    )
    params = {"scale": jnp.float32(0.5), "shift": jnp.float32(shift)}
    gradient = jax.value_and_grad(objective, has_aux=True)
    (value, _), slopes = gradient(params, x, condition, jax.random.key(1), STEP)
    return float(value), {name: float(slope) for name, slope in slopes.items()}


def test_the_loss_has_no_term_of_a_given_frame():
    """They act through the network's output alone: with shift 0 not at all."""
    value, slopes = loss(0.0)
    other, others = loss(0.0, frames=1)
    assert value == other
    assert slopes["scale"] == others["scale"]
    assert slopes["shift"] != others["shift"]
    assert loss(0.7)[0] != pytest.approx(loss(0.7, frames=1)[0], rel=1e-3)


def test_dropped_frames_change_neither_loss_nor_gradient():
    value, slopes = loss(0.7, 1.0)
    assert (value, slopes) == loss(0.7, 1.0, frames=1)
    assert value == pytest.approx(loss(0.0)[0], rel=1e-6)
    assert slopes["shift"] == 0.0
