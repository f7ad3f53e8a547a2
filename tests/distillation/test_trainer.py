"""Every form and option: in parts, divided over devices, and resumed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sid2core import config
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.config import params
from sid2core.data.load.loader import Batch, Loader
from sid2core.diffusion.guidance import ConstantGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.distillation import trainer
from sid2core.distillation.protocol import Form
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.inference.denoiser import Denoiser
from sid2core.training import loop, mesh
from sid2core.training.mesh import ONE_DEVICE
from tests import tiny
from tests.data import stored
from tests.stopping import Stopped, stopping
from tests.training.perceptron import perceptron

SIZE, CLASSES, BATCH = 8, 10, 16
NETWORK = perceptron(tiny.params(), (SIZE, SIZE, 1), ConditionSpec.of_classes(CLASSES))
WEIGHTS = NETWORK.init(jax.random.key(0))
SCHEDULE = CosineInterpolated(SIZE, SIZE)

WEIGHT = {"weighting": "v", "max_weight": 10.0}
FORMS = {
    "alternating": WEIGHT,
    "parameter_space": WEIGHT | {"preconditioner": "adam", "adam_b2": 0.99, "adam_eps": 1e-5},
}
OPTIONS = {
    "default": {},
    "rollout": {"source": "rollout", "times": "grid", "density": "logsnr", "eta": 0.5},
    "dropout": {"dropout": 0.3},
}
CASES = [(name, "default") for name in FORMS] + [
    ("alternating", option) for option in OPTIONS if option != "default"
]
"""Forms with the default options, and options with one form: they do not know of one another."""


def form_of(name, option):
    denoiser = Denoiser(NETWORK, Prediction.V)
    options = OPTIONS[option]
    made = params.Form.model_validate({"name": name, name: FORMS[name]}).build(
        states=States(denoiser, SCHEDULE, 3, **options),
        teacher=Guided(denoiser, ConstantGuidance(1.0)),
    )
    assert isinstance(made, Form)
    return made


def batches(seed=0):
    draws = np.random.default_rng(seed)
    return tuple(
        Batch(
            draws.integers(0, 256, (BATCH, SIZE, SIZE, 1)).astype(np.uint8),
            tiny.labels(draws.integers(0, CLASSES, BATCH)),
        )
        for _ in range(2)
    )


SGD = optax.sgd(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), CASES)
def test_a_batch_in_parts_is_the_batch(name, option):
    """Draws and dropout included: update by update, up to rounding."""
    form, states = form_of(name, option), []
    for parts in (1, 4):
        step = jax.jit(partial(trainer.update, form=form, chain=SGD, ema_decay=0.9, parts=parts))
        state = trainer.initial_state(form, WEIGHTS, SGD)
        for index in range(2):
            state, _ = step(state, Teacher(WEIGHTS), batches(index), jax.random.key(1))
        states.append(state)
    whole, part = (jax.tree.map(jnp.subtract, one["student"], WEIGHTS) for one in states)
    assert distance(part, whole) < 1e-3
    assert distance(*states) < 1e-6


def distance(one, two):
    """Of two trees of numbers, relative to the second."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    flat = [(np.ravel(np.float64(a)), np.ravel(np.float64(b))) for a, b in pairs]
    a, b = (np.concatenate(side) for side in zip(*flat, strict=True))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def run_on(where, name, option, accumulation=1):
    changes = {"iterations": 6, "batch_size": BATCH, "accumulation": accumulation}
    # As in training/test_mesh.py: Adam would make full steps of rounding.
    optimiser = tiny.SECTIONS["distill"]["optimiser"] | {"adam_eps": 1e-5}
    settings = tiny.params(distill=changes | {"optimiser": optimiser}).distill
    pixels, labels = batches()[0].examples, np.arange(BATCH) % CLASSES
    loader = Loader(stored.dataset(pixels, labels, "0123456789"), BATCH, 0, sharding=where.batch)
    teacher = Teacher(WEIGHTS)
    return trainer.distillation_run(settings, form_of(name, option), teacher, loader, 0, where)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), CASES)
def test_stopped_it_goes_on_and_ends_with_the_same_bytes(tmp_path, name, option):
    runtime = tiny.params(runtime={"log_every": 2, "checkpoint_every": 2}).runtime
    run = run_on(ONE_DEVICE, name, option)
    expected, _ = loop.fit(run, tmp_path / "calm", runtime)
    with pytest.raises(Stopped):
        loop.fit(stopping(run, 3), tmp_path / "stopped", runtime)
    found, _ = loop.fit(run, tmp_path / "stopped", runtime)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), CASES)
def test_eight_devices_distil_as_one(name, option):
    """The state divided among four of them, in parts; the batch among all."""
    found = []
    for where in (ONE_DEVICE, mesh.layout(config.Mesh(data=2, fsdp=4))):
        run = run_on(where, name, option, accumulation=2)
        state = run.init()
        for index, pair in zip(range(2), run.batches(0), strict=False):
            state, _ = run.step(state, pair, index)
        found.append(where.host(state))
    assert distance(found[1], found[0]) < 1e-5


@pytest.mark.parametrize(
    ("name", "option"),
    [CASES[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in CASES[1:])],
)
def test_no_row_of_a_batch_changes_its_device(name, option):
    """Nothing is permuted between devices: the guided teacher is evaluated in two calls."""
    where = mesh.layout(config.Mesh(data=8, fsdp=1))
    form = form_of(name, option)
    update = partial(trainer.update, form=form, chain=SGD, ema_decay=0.9, layout=where)

    def first():
        return trainer.initial_state(form, WEIGHTS, SGD)

    one = Batch(
        jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 1), jnp.uint8, sharding=where.batch),
        Condition(label=jax.ShapeDtypeStruct((BATCH,), jnp.int32, sharding=where.batch)),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    teacher = Teacher(where.abstract(lambda: WEIGHTS))
    step = where.compiled(update, first).lower(where.abstract(first), teacher, (one, one), key)
    program = step.compile().as_text()
    assert "all-reduce" in program
    assert "collective-permute" not in program


def test_a_student_starts_from_another_and_its_auxiliary_network():
    """In buffers of its own: the other one is still to be written."""
    form = form_of("alternating", "default")
    other, auxiliary = (
        jax.tree.map(lambda one, by=by: by * np.asarray(one), WEIGHTS) for by in (2, 3)
    )
    start = trainer.Student(other, {"auxiliary": auxiliary})
    state = trainer.initial_state(form, WEIGHTS, SGD, start)
    for name, expected in (("student", other), ("ema", other), ("auxiliary", auxiliary)):
        jax.tree.map(np.testing.assert_array_equal, state[name], expected)
    assert state["student"]["out"].unsafe_buffer_pointer() != other["out"].ctypes.data
    assert form.kept(state) == {"auxiliary": state["auxiliary"]}
