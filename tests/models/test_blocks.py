import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core.models import cost, layers
from sid2core.models.blocks import Embedded, ResBlock, TransformerBlock
from sid2core.models.dropout import dropped
from sid2core.models.execution import Execution
from sid2core.models.layers import FiLM, group_norm
from tests.models import configs, oracle
from tests.models.products import products

EMB = 6
BLOCKS = {"res": ResBlock, "transformer": TransformerBlock}


def block_of(kind, rate=0.0, channels=8, **options):
    config = configs.tiny(
        channels=(channels,),
        blocks=(kind,),
        encoder_depth=(),
        decoder_depth=(),
        dropout=(rate,),
        emb_channels=EMB,
        **({"head_size": 4} | options),
    )
    return BLOCKS[kind](config, 0, Execution(), nnx.Rngs(0))


def filled(module, seed=0):
    """The module with a random value in every parameter, and the same by name in float64."""
    graph, state = nnx.split(module, nnx.Param)
    draws, names, flat = np.random.default_rng(seed), {}, []
    for path, leaf in nnx.to_flat_state(state):
        name = "/".join(map(str, path))
        value = draws.normal(0.0, 0.4, leaf.shape) + name.endswith("/scale")
        names[name] = np.asarray(value, np.float32).astype(np.float64)
        flat.append((path, leaf.replace(jnp.asarray(value, jnp.float32))))
    return nnx.merge(graph, nnx.from_flat_state(flat)), names


def compiled(block):
    return jax.jit(lambda x, emb, key=None: block(x, Embedded(emb), key))


def batch(channels=8, size=(4, 6), count=3, seed=1):
    draws = np.random.default_rng(seed)
    x = draws.normal(size=(count, *size, channels)).astype(np.float32)
    emb = draws.normal(size=(count, EMB)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(emb)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_fresh_block_is_the_identity(kind):
    x, emb = batch()
    assert (compiled(block_of(kind))(x, emb) == x).all()


def test_res_block_is_its_formula():
    module, weights = filled(block_of("res"))
    block = compiled(module)
    x, emb = batch()
    found = block(x, emb)
    for image, vector, out in zip(np.float64(x), np.float64(emb), found, strict=True):
        expected = oracle.res_block(image, vector, weights)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_transformer_block_is_its_formula():
    module, weights = filled(block_of("transformer"))
    block = compiled(module)
    x, emb = batch()
    found = block(x, emb)
    for image, vector, out in zip(np.float64(x), np.float64(emb), found, strict=True):
        expected = oracle.transformer_block(image, vector, weights, head_size=4)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_attention_knows_no_order():
    """Without position embeddings, moving the positions moves the outputs and nothing else."""
    block = compiled(filled(block_of("transformer"))[0])
    x, emb = batch()
    order = np.random.default_rng(2).permutation(24)
    moved = x.reshape(3, 24, 8)[:, order].reshape(x.shape)
    expected = block(x, emb).reshape(3, 24, 8)[:, order].reshape(x.shape)
    np.testing.assert_allclose(block(moved, emb), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", BLOCKS)
def test_examples_of_a_batch_do_not_see_each_other(kind):
    block = compiled(filled(block_of(kind))[0])
    x, emb = batch()
    together = block(x, emb)
    alone = jnp.concatenate([block(x[i : i + 1], emb[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", BLOCKS)
def test_dropout_is_a_function_of_its_key(kind):
    block = compiled(filled(block_of(kind, rate=0.5))[0])
    x, emb = batch()
    first, again, other = (block(x, emb, jax.random.key(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert (block(x, emb) == block(x, emb)).all()
    assert (block(x, emb) != first).any()


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_rate_of_zero_is_no_dropout(kind):
    block = compiled(filled(block_of(kind, rate=0.0))[0])
    x, emb = batch()
    assert (block(x, emb, jax.random.key(0)) == block(x, emb)).all()


def test_dropout_keeps_the_expectation():
    h = jnp.full((100, 10, 10, 10), 2.0)
    out = np.asarray(dropped(h, 0.25, jax.random.key(0)))
    assert set(np.unique(out)) == {0.0, np.float32(2.0 / 0.75)}
    # 5 deviations of the share of zeros among 1e5.
    assert abs((out == 0).mean() - 0.25) < 5 * (0.25 * 0.75 / 1e5) ** 0.5


def test_film_is_scale_and_shift():
    film, weights = filled(FiLM(EMB, 8, nnx.Rngs(0), jnp.float32))
    x, emb = batch()
    for image, vector, out in zip(np.float64(x), np.float64(emb), film(x, emb), strict=True):
        np.testing.assert_allclose(out, oracle.film(image, vector, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(128, 32), (1024, 32), (32, 32), (48, 16), (6, 2), (5, 1), (1, 1)]
)
def test_groups_divide_the_channels(channels, groups):
    assert group_norm(channels, nnx.Rngs(0)).num_groups == groups


@pytest.mark.parametrize("shape", [(3, 5, 4, 24), (2, 3, 4, 4, 64), (2, 7, 48)])
def test_group_norm_and_its_gradients_are_flaxs(shape):
    ours = group_norm(shape[-1], nnx.Rngs(0))
    theirs = nnx.GroupNorm(shape[-1], num_groups=ours.num_groups, rngs=nnx.Rngs(0))
    x, pull, scale, bias = (
        jax.random.normal(key, size) + 0.5
        for key, size in zip(
            jax.random.split(jax.random.key(1), 4),
            (shape, shape, shape[-1:], shape[-1:]),
            strict=True,
        )
    )

    def run(norm):
        norm.scale[...], norm.bias[...] = scale, bias
        graph, state = nnx.split(norm)

        @jax.jit
        def values_and_gradients(state, x, pull):
            y, back = jax.vjp(lambda state, x: nnx.merge(graph, state)(x), state, x)
            return y, *back(pull)

        y, weights, image = values_and_gradients(state, x, pull)
        return y, image, weights["scale"][...], weights["bias"][...]

    for found, expected in zip(run(ours), run(theirs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_fresh_kernels_have_variance_one_over_fan_in():
    kernel = np.asarray(layers.lecun_normal(jax.random.key(0), (3, 3, 64, 256)), np.float64)
    assert kernel.std() == pytest.approx((9 * 64) ** -0.5, rel=0.01)
    assert kernel.mean() == pytest.approx(0.0, abs=0.001)
    assert np.abs(kernel).max() <= 2.0 * (9 * 64) ** -0.5 / 0.8796 + 1e-7


@pytest.mark.parametrize(
    ("kind", "gflops", "films"),
    [("res", cost.resblock_gflops, 1), ("transformer", cost.transformer_gflops, 2)],
)
def test_the_published_cost_is_what_is_computed(kind, gflops, films):
    """All but what is not of a position: e · 2c a FiLM."""
    block = block_of(kind)
    x, emb = batch(count=1)
    traced = jax.make_jaxpr(lambda x, emb: block(x, Embedded(emb), None))(x, emb)
    once = films * EMB * 16
    assert products(traced.jaxpr) == round(gflops(24, 8, 1) * 1e9) + once
