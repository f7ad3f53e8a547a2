"""In bfloat16 no operation mixes types, forward or backward; derivatives of both kinds exist."""

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from sid2core.conditioning import ConditionSpec, GivenKind, LabelKind
from sid2core.config import build, presets
from sid2core.models.execution import Execution, Remat
from sid2core.models.network import Network
from sid2core.plan.counting import example
from tests import tiny
from tests.models import configs


def equations(jaxpr):
    """All equations, those of loops, branches and calls included."""
    for one in jaxpr.eqns:
        inner = [value for value in jax.tree.leaves(list(one.params.values()), is_leaf=is_jaxpr)]
        found = [value for value in inner if is_jaxpr(value)]
        if found:
            for value in found:
                yield from equations(getattr(value, "jaxpr", value))
        else:
            yield one


def is_jaxpr(value):
    return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))


def mixed(network, batch=2):
    """The operations of a loss and its gradient whose floating-point operands differ in type."""
    z, logsnr, condition = example(network.config, batch)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def loss(weights, z, logsnr, condition, key):
        return jnp.mean(jnp.square(network.apply(weights, z, logsnr, condition, key)))

    jaxpr = jax.make_jaxpr(jax.value_and_grad(loss))(network.shapes(), z, logsnr, condition, key)
    products, found = set(), set()
    for one in equations(jaxpr.jaxpr):
        types = [value.aval.dtype for value in one.invars if hasattr(value.aval, "dtype")]
        floating = {dtype.name for dtype in types if jnp.issubdtype(dtype, jnp.floating)}
        if one.primitive.name in ("dot_general", "conv_general_dilated"):
            products |= floating
        if len(floating) > 1 and len(one.outvars) == 1:
            found.add(f"{one.primitive.name}: {[value.aval.str_short() for value in one.invars]}")
    assert products == {"bfloat16", "float32"}
    return found


def test_nothing_mixes_types_with_every_kind_of_condition():
    kinds = (LabelKind(4), configs.learned_kind(), GivenKind((1, 8, 8, 3)))
    config = configs.tiny(
        image_shape=(2, 8, 8, 3), condition=ConditionSpec(kinds), compute_dtype="bfloat16"
    )
    assert not mixed(Network(config, Execution(Remat.BLOCKS, attention="recomputed")))


@pytest.mark.slow
@pytest.mark.parametrize("position", ["learned", "rope"])
def test_nothing_mixes_types_in_the_512_flop_heavy_model(position):
    params = presets.change(
        presets.read("imagenet512-flop-heavy", tiny.ROOT / "conf"), tiny.ROOT / "params.yaml"
    ).params
    model = params.model.model_copy(update={"position": position})
    config = build.network(model, (512, 512, 3), ConditionSpec.of_classes(1000))
    assert config.compute_dtype == "bfloat16"
    assert not mixed(Network(config, build.execution(params.runtime)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_layer_is_differentiable_forward(dtype):
    """Moment matching in parameter space needs the change of the output with the weights."""
    network = Network(configs.tiny(compute_dtype=dtype))
    z, logsnr, condition = example(network.config, 2)

    def change(weights, z, logsnr, condition):
        def output(weights):
            return network.apply(weights, z, logsnr, condition)

        return jax.jvp(output, (weights,), (weights,))[1]

    found = jax.eval_shape(change, network.shapes(), z, logsnr, condition)
    assert (found.shape, found.dtype) == (z.shape, jnp.float32)
