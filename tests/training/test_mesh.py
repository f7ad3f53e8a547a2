"""One process with eight devices: the same training as on one, each with its part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core import config
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.config import ParamsError, build, presets
from sid2core.data.load.loader import Batch, Loader
from sid2core.models.network import Network
from sid2core.training import base, loop, mesh
from sid2core.training.mesh import ONE_DEVICE
from tests import tiny
from tests.data import stored
from tests.stopping import Stopped, stopping
from tests.training.perceptron import perceptron

MESHES = [*(pytest.param(*one, marks=pytest.mark.slow) for one in [(8, 1), (1, 8)]), (2, 4)]


def layout(data, fsdp, devices=None):
    return mesh.layout(config.Mesh(data=data, fsdp=fsdp), devices)


@pytest.mark.parametrize(
    ("data", "fsdp", "sizes"),
    [
        (-1, 1, (8, 1)),
        (1, -1, (1, 8)),
        (2, -1, (2, 4)),
        (-1, 4, (2, 4)),
        (2, 2, (2, 2)),
    ],
)
def test_minus_one_is_all_others(data, fsdp, sizes):
    found = layout(data, fsdp)
    assert tuple(found.mesh.shape.values()) == sizes
    assert found.devices == sizes[0] * sizes[1]
    assert list(found.mesh.devices.flat) == jax.devices()[: found.devices]


def test_one_device_is_no_mesh():
    assert layout(1, 1) == layout(-1, 1, jax.devices()[:1]) == ONE_DEVICE
    assert ONE_DEVICE.batch is None


@pytest.mark.parametrize(
    ("data", "fsdp", "words"),
    [
        (9, 1, "needs 9 devices and there are 8"),
        (4, 4, "needs 16 devices and there are 8"),
        (3, -1, "3 does not divide the 8 devices"),
    ],
)
def test_a_mesh_of_other_sizes_than_the_devices_is_refused(data, fsdp, words):
    with pytest.raises(ParamsError, match=f"runtime.mesh: data {data} and fsdp {fsdp}: .*{words}"):
        layout(data, fsdp)


@pytest.fixture(scope="module")
def dataset():
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
    return stored.dataset(pixels, np.arange(64) % 10, "0123456789")


# Biases before a norm of single channels have no gradient but rounding, and Adam would make steps
# of full size of it.
OPTIMISER = tiny.SECTIONS["train"]["optimiser"] | {"adam_eps": 1e-5}


def run_on(where, dataset, **train):
    params = tiny.params(train={"steps": 20, "ema_decay": 0.5, "optimiser": OPTIMISER, **train})
    network = perceptron(params, dataset.shape, dataset.condition)
    loader = Loader(dataset, params.train.batch_size, params.seed, sharding=where.batch)
    return tiny.base_run(params, network, loader, where)


def runtime(**changes):
    return tiny.params(runtime={"log_every": 5, "checkpoint_every": 5} | changes).runtime


def distance(one, two):
    """Of two trees of arrays, relative to the second."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    squares = np.array(
        [
            (np.sum(np.square(np.float64(a) - np.float64(b))), np.sum(np.square(np.float64(b))))
            for a, b in pairs
        ]
    )
    return np.sqrt(np.divide(*squares.sum(axis=0)))


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """The end of the run on one device, and its folder."""
    folder = tmp_path_factory.mktemp("alone")
    state, log = loop.fit(run_on(ONE_DEVICE, dataset), folder, runtime())
    return state, log, folder


@pytest.mark.parametrize(("data", "fsdp"), MESHES)
def test_many_devices_train_as_one_does_and_a_checkpoint_goes_anywhere(
    dataset, alone, tmp_path, data, fsdp
):
    """Half the way on eight devices, the rest on one, with the checkpoint of the eight."""
    state, log, _ = alone
    many = run_on(layout(data, fsdp), dataset)
    with pytest.raises(Stopped):
        loop.fit(stopping(many, 13), tmp_path, runtime())
    resumed, other = loop.fit(run_on(ONE_DEVICE, dataset), tmp_path, runtime())
    for name in ("params", "ema"):
        assert distance(resumed[name], state[name]) < 1e-5
    assert [row["step"] for row in other.rows] == [5, 10, 15, 20]
    for one, two in zip(other.rows, log.rows, strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_the_state_of_many_devices_is_divided_from_birth(dataset):
    where = layout(2, 4)
    run = run_on(where, dataset)
    state = run.init()
    fresh = run_on(ONE_DEVICE, dataset).init()
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert distance(where.host(state["params"]), fresh["params"]) < 1e-6
    state, _ = run.step(state, next(run.batches(0)), 0)
    for name, value in state["params"].items():
        parts = 4 if any(size % 4 == 0 for size in value.shape) else 1
        places = [state["ema"][name], state["optimiser"][1][0].mu[name], value]
        for one in places:
            shard = one.sharding.shard_shape(one.shape)
            assert np.prod(shard) * parts == one.size, name


def test_a_checkpoint_of_one_device_goes_to_many(dataset, alone):
    _, _, folder = alone
    where = layout(2, 4)
    resumed, _ = loop.fit(run_on(where, dataset), folder, runtime())
    state, _, _ = alone
    assert jax.tree.leaves(resumed["params"])[0].sharding.mesh == where.mesh
    assert distance(where.host(resumed), state) == 0.0


def test_parts_that_cannot_be_divided_are_refused(dataset):
    with pytest.raises(ParamsError, match="train.accumulation: 4 parts of 4 images cannot be"):
        run_on(layout(-1, 1), dataset, accumulation=4)
    assert run_on(layout(2, 2), dataset, accumulation=4)


def test_parts_on_many_devices_are_the_batch_on_one(dataset):
    where = layout(1, 4)
    states = []
    for one, parts in ((ONE_DEVICE, 1), (where, 4)):
        run = run_on(one, dataset, accumulation=parts)
        state = run.init()
        for index in range(3):
            state, _ = run.step(state, next(run.batches(index)), index)
        states.append(one.host(state["params"]))
    assert distance(*states) < 1e-5


@pytest.mark.slow
def test_state_a_device_falls_as_one_over_their_number(dataset):
    """Of the compiled step's arguments, without the batch; a small network has odd leftovers."""
    sizes = {count: argument_bytes(tiny.params(), dataset.shape, count) for count in (1, 8)}
    for count, size in sizes.items():
        assert sizes[1] / count <= size < 1.35 * sizes[1] / count + 2000, sizes


def argument_bytes(params, shape, count, classes=10):
    """Bytes of the state that a device of ``count`` holds, by XLA; nothing is allocated."""
    where = layout(1, count)
    spec = ConditionSpec.of_classes(classes)
    network = Network(build.network(params.model, shape, spec), build.execution(params.runtime))
    objective = tiny.objective(params, network)
    first, step = base.compiled(objective, params.train, params.seed, where)
    batch = where.batch
    count = params.train.batch_size
    arguments = (
        where.abstract(first),
        Batch(
            jax.ShapeDtypeStruct((count, *shape), jnp.uint8, sharding=batch),
            Condition(label=jax.ShapeDtypeStruct((count,), jnp.int32, sharding=batch)),
        ),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    analysis = step.lower(*arguments).compile().memory_analysis()
    return analysis.alias_size_in_bytes


@pytest.mark.slow
def test_the_state_of_the_512_flop_heavy_model_falls_too():
    """All but what no eight devices can share: a thousandth."""
    preset = presets.read("imagenet512-flop-heavy", tiny.ROOT / "conf")
    params = presets.change(preset, tiny.ROOT / "params.yaml").params
    whole, part = (argument_bytes(params, (512, 512, 3), count, 1000) for count in (1, 8))
    assert part / whole == pytest.approx(1 / 8, rel=1e-2)
