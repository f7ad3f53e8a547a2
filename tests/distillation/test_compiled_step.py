"""What an iteration of distillation sends between eight devices, read from its compiled program."""

from functools import partial

import jax
import optax
import pytest

from sid2core import config
from sid2core.config import params
from sid2core.diffusion.guidance import ConstantGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.distillation import trainer
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.inference.denoiser import Denoiser
from sid2core.models.execution import Execution, Remat
from sid2core.models.network import Network
from sid2core.training import mesh
from tests import programs
from tests.programs import CONFIG, gathers


@pytest.mark.slow
def test_teacher_student_and_auxiliary_network_are_gathered_where_they_are_used():
    """In the type of their layers; nothing else is gathered, and nothing is permuted."""
    network = Network(CONFIG, Execution(Remat.BLOCKS))
    denoiser, size = Denoiser(network, Prediction.V), CONFIG.image_shape[0]
    options = {"weighting": "v", "max_weight": 10.0}
    made = params.Form.model_validate({"name": "alternating", "alternating": options})
    form = made.build(
        states=States(denoiser, CosineInterpolated(size, size), 3),
        teacher=Guided(denoiser, ConstantGuidance(1.0)),
    )
    where, chain = mesh.layout(config.Mesh(data=1, fsdp=8)), optax.sgd(0.1)
    weights = where.abstract(lambda: network.init(jax.random.key(0)))

    def first():
        return trainer.initial_state(form, network.init(jax.random.key(0)), chain)

    update = partial(trainer.update, form=form, chain=chain, ema_decay=0.9, layout=where)
    batch, key = programs.batch(CONFIG, 16, where), jax.eval_shape(lambda: jax.random.key(0))
    arguments = where.abstract(first), Teacher(weights), (batch, batch), key
    found = programs.compiled(where.compiled(update, first).lower(*arguments))
    assert set(programs.operations(found.final)) == {"all-gather", "all-reduce"}
    sent = {one for one in programs.sent(found.partitioned) if one.kind == "all-gather"}
    assert sent == set(gathers(network, lambda _: 1))
    largest = max(one.size for one in network.shapes().values())
    assert programs.most_gathered(found.final) < 5 * largest
