"""The state of distillation as ``sid2 plan`` counts it, against the programs of the trainer."""

import jax
import numpy as np
import pytest

from sid2core import config
from sid2core.data.load.loader import Batch
from sid2core.diffusion.guidance import ConstantGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.distillation import trainer
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.inference.denoiser import Denoiser
from sid2core.models.network import Network
from sid2core.plan import distillation, memory
from sid2core.plan.distillation import Model
from sid2core.training import optimiser
from tests import tiny
from tests.models import configs

CONFIG = configs.tiny()
NETWORK = Network(CONFIG)


def settings(form):
    return tiny.params(distill={"form": {"name": form}, "steps": [4]}).distill


def expected(form):
    model = Model(1.0, memory.gradient_bytes(NETWORK.shapes()))
    made = distillation.price(settings(form), ["unconditional"], model, None, conditional=True)
    return made.state_bytes


def iteration(form):
    """An iteration as a function of abstract arguments, and these: state, teacher, batches, key."""
    denoiser = Denoiser(NETWORK, Prediction.V)
    made = settings(form).form.build(
        states=States(denoiser, CosineInterpolated(8, 8), 4),
        teacher=Guided(denoiser, ConstantGuidance(1.0)),
    )
    chain, weights = optimiser.build(settings(form).optimiser, 10), NETWORK.shapes()
    state = jax.eval_shape(lambda one: trainer.initial_state(made, one, chain), weights)
    images = jax.ShapeDtypeStruct((2, *CONFIG.image_shape), np.uint8)
    batch = Batch(images, jax.eval_shape(lambda: CONFIG.condition.null(2)))

    def update(state, teacher, batches, key):
        return trainer.update(
            state, Teacher(teacher), batches, key, form=made, chain=chain, ema_decay=0.9
        )

    return update, (state, weights, (batch, batch), jax.eval_shape(lambda: jax.random.key(0)))


def bytes_of(tree):
    return sum(one.size * one.dtype.itemsize for one in jax.tree.leaves(tree))


@pytest.mark.parametrize("form", config.FORMS)
def test_the_state_is_what_an_iteration_takes(form):
    """But for counters."""
    _, (state, weights, _, _) = iteration(form)
    assert 0 < bytes_of((state, weights)) - expected(form) <= 5 * 4


@pytest.mark.slow
@pytest.mark.parametrize("form", config.FORMS)
def test_the_state_is_what_the_compiled_program_takes(form):
    update, arguments = iteration(form)
    compiled = jax.jit(update).lower(*arguments).compile()
    found = compiled.memory_analysis().argument_size_in_bytes
    assert found - bytes_of(arguments[2]) == pytest.approx(expected(form), abs=200)
