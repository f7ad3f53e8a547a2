"""How a network is computed changes its numbers by rounding alone."""

import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from sid2core.models import execution, sharding
from sid2core.models.execution import AttentionError, Execution, Remat
from sid2core.models.network import Network
from tests.models import configs

CONFIG = configs.tiny(encoder_depth=(0,), decoder_depth=(2,), mid_depth=2)
VIDEO = replace(CONFIG, image_shape=(4, 8, 8, 3), temporal_strides=(2,), decoder_depth=(3,))
QUICK = {"xla_backend_optimization_level": 0}
"""What is compiled once and run once need not be optimised."""
PLAIN = Execution(scan_blocks=99)
WAYS = {
    "loops": Execution(scan_blocks=2),
    "all but products again": Execution(Remat.PRODUCTS, scan_blocks=99),
    "blocks again, their inputs on the host": Execution(Remat.OFFLOAD, scan_blocks=2),
    "blocks again": Execution(Remat.BLOCKS, scan_blocks=99),
    "levels again": Execution(Remat.FULL, scan_blocks=99),
    "loops, blocks again": Execution(Remat.BLOCKS, scan_blocks=2),
    "loops, levels again": Execution(Remat.FULL, scan_blocks=2),
    "attention again": Execution(scan_blocks=99, attention="recomputed"),
}


def outputs_and_gradients(config, way):
    network = Network(config, way)
    weights = configs.weights(network)
    z, logsnr, condition = configs.inputs(config)

    def loss(weights):
        out = network.apply(weights, z, logsnr, condition, jax.random.key(3))
        return jnp.mean(jnp.square(out)), out

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, out), gradient = step.lower(weights).compile(compiler_options=QUICK)(weights)
    return out, gradient


@pytest.fixture(scope="module")
def plain():
    return outputs_and_gradients(CONFIG, PLAIN)


def assert_close(found, expected, tolerance):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


QUICK_WAYS = {"loops, levels again", "attention again"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK_WAYS else pytest.mark.slow) for name in WAYS],
)
def test_every_way_gives_the_same_outputs_and_gradients(name, plain):
    """Dropout included: a block's key depends on its index alone."""
    out, gradient = outputs_and_gradients(CONFIG, WAYS[name])
    assert_close(out, plain[0], 1e-6)
    largest = max(float(jnp.abs(value).max()) for value in plain[1].values())
    for key, value in plain[1].items():
        np.testing.assert_allclose(gradient[key], value, rtol=0, atol=1e-6 * largest, err_msg=key)


@pytest.mark.slow
def test_video_in_loops_is_video_written_out():
    found, expected = (
        outputs_and_gradients(VIDEO, way) for way in (WAYS["loops, blocks again"], PLAIN)
    )
    assert_close(found[0], expected[0], 1e-6)


def loops(config, way):
    network = Network(config, way)
    text = str(jax.make_jaxpr(network.apply)(network.shapes(), *configs.inputs(config)))
    return text.count("scan[")


def test_long_runs_of_blocks_are_loops_and_short_ones_are_not():
    config = replace(CONFIG, mid_depth=3)
    assert loops(config, Execution(scan_blocks=3)) == 1
    assert loops(config, Execution(scan_blocks=2)) == 2
    assert loops(config, Execution(scan_blocks=4)) == 0


def kept(way):
    """Bytes that wait for the backward pass, weights and inputs not counted."""
    network = Network(replace(CONFIG, mid_depth=8), way)
    shapes = network.shapes()
    inputs = configs.inputs(CONFIG, batch=16)

    def residuals(weights):
        return jax.vjp(lambda weights: network.apply(weights, *inputs), weights)[1]

    leaves = jax.tree.leaves(jax.eval_shape(residuals, shapes))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) - sum(
        one.size * 4 for one in shapes.values()
    )


@pytest.mark.slow
def test_recomputing_keeps_less():
    nothing, blocks, full = (
        kept(Execution(remat, scan_blocks=99)) for remat in (Remat.NONE, Remat.BLOCKS, Remat.FULL)
    )
    assert full < 0.7 * blocks
    assert blocks < 0.5 * nothing


def test_bfloat16_stays_close_and_keeps_float32_where_it_matters():
    config = replace(CONFIG, compute_dtype="bfloat16")
    half, whole = Network(config), Network(CONFIG)
    weights = configs.weights(whole)
    assert {value.dtype for value in jax.jit(half.init)(jax.random.key(0)).values()} == {
        jnp.dtype("float32")
    }
    inputs = configs.inputs(CONFIG, batch=8)
    found, expected = (jax.jit(net.apply)(weights, *inputs) for net in (half, whole))
    assert found.dtype == jnp.float32
    distance = jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)
    assert 0 < distance < 2e-2
    text = str(jax.make_jaxpr(half.apply)(weights, *inputs))
    norms = [line for line in text.splitlines() if " rsqrt " in line or " exp " in line]
    assert norms
    assert not [line for line in norms if "bf16" in line]


@pytest.mark.parametrize(
    ("data", "fsdp"),
    [*(pytest.param(*one, marks=pytest.mark.slow) for one in [(8, 1), (1, 8)]), (2, 4)],
)
def test_eight_devices_are_one(data, fsdp):
    config = configs.tiny(channels=(8, 16), head_size=8, encoder_depth=(0,), decoder_depth=(1,))
    network = Network(config)
    weights, inputs = configs.weights(network), configs.inputs(config, batch=8)

    def loss(weights, inputs):
        return jnp.mean(jnp.square(network.apply(weights, *inputs)))

    step = jax.jit(jax.value_and_grad(loss))
    expected, gradient = step(weights, inputs)
    mesh = Mesh(np.array(jax.devices()).reshape(data, fsdp), ("data", "fsdp"))
    where = sharding.of_parameters(network.shapes(), mesh)
    spread = {name: jax.device_put(value, where[name]) for name, value in weights.items()}
    batch = jax.device_put(inputs, sharding.of_batch(mesh))
    found, other = step(spread, batch)
    assert len(found.sharding.device_set) == 8
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    largest = max(float(jnp.abs(value).max()) for value in gradient.values())
    for name, value in gradient.items():
        np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-5 * largest, err_msg=name)


def test_the_rule_divides_the_largest_axis_that_divides():
    assert tuple(sharding.partition((3, 3, 16, 64), 8)) == (None, None, None, "fsdp")
    assert tuple(sharding.partition((64, 64), 8)) == (None, "fsdp")
    assert tuple(sharding.partition((128, 20), 8)) == ("fsdp",)
    assert tuple(sharding.partition((12,), 8)) == ()
    assert tuple(sharding.partition((64,), 1)) == ()


@pytest.mark.parametrize(
    ("backend", "dtype", "head", "expected"),
    [
        ("gpu", "bfloat16", 64, "cudnn"),
        ("gpu", "bfloat16", 128, "cudnn"),
        ("gpu", "bfloat16", 12, "xla"),
        ("gpu", "bfloat16", 256, "xla"),
        ("gpu", "float32", 64, "xla"),
        ("cpu", "bfloat16", 64, "xla"),
    ],
)
def test_cudnn_runs_where_it_can(backend, dtype, head, expected):
    choose = execution.attention_implementation
    assert choose("auto", backend, dtype, head, 64) == expected
    assert choose("auto", backend, dtype, head, 16 * head - 1) == expected
    long = "cudnn" if expected == "cudnn" else "recomputed"
    assert choose("auto", backend, dtype, head, 16 * head) == long
    assert choose("xla", backend, dtype, head, 16 * head) == "xla"
    assert choose("recomputed", backend, dtype, head, 64) == "recomputed"
    if expected == "cudnn":
        assert choose("cudnn", backend, dtype, head, 1024) == "cudnn"
    else:
        with pytest.raises(AttentionError, match=r"cannot run: .*runtime\.attention"):
            choose("cudnn", backend, dtype, head, 1024)


def test_the_choice_of_attention_is_logged_once(caplog):
    config = configs.tiny(mid_depth=3, head_size=3)
    network = Network(config)
    execution.attention_implementation.cache_clear()
    with caplog.at_level(logging.INFO, "sid2core.models.execution"):
        for _ in range(2):
            jax.eval_shape(network.apply, network.shapes(), *configs.inputs(config))
    assert [record.message for record in caplog.records] == [
        "attention over 4 tokens, heads of 3: xla"
    ]
