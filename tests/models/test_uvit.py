import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core.errors import Sid2Error
from sid2core.models.architecture import ModelError
from sid2core.models.blocks import Embedded
from sid2core.models.execution import Execution
from sid2core.models.network import Network
from sid2core.models.uvit import Level
from tests import tiny
from tests.models import configs, oracle

CONFIGS = {
    "two levels": configs.tiny(),
    "one level": configs.tiny(
        channels=(12,),
        blocks=("transformer",),
        encoder_depth=(),
        decoder_depth=(),
        dropout=(0.0,),
        patch_size=4,
        mid_depth=2,
    ),
    "three levels, oblong, uneven": configs.tiny(
        image_shape=(8, 16, 1),
        patch_size=1,
        channels=(4, 6, 12),
        blocks=("res", "res", "transformer"),
        encoder_depth=(2, 0),
        decoder_depth=(0, 1),
        dropout=(0.0, 0.0, 0.0),
    ),
}
RESIDUAL = configs.tiny(
    blocks=("res", "res"), channels=(12, 6), encoder_depth=(1,), decoder_depth=(1,)
)
"""Groups of three channels: norms of one channel each would hide a constant."""


def fresh_inside(config, **parts):
    """Fresh weights but for random ones in the parts whose names start as given."""
    network = Network(config)
    weights, noise = jax.jit(network.init)(jax.random.key(0)), configs.weights(network)
    return network, {
        name: noise[name] if name.startswith(tuple(parts["random"])) else value
        for name, value in weights.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network_is_its_formula(name):
    config = CONFIGS[name]
    network = Network(config)
    weights = configs.weights(network)
    z, logsnr, condition = configs.inputs(config)
    found = jax.jit(network.apply)(weights, z, logsnr, condition)
    exact = configs.float64(weights)
    for image, level, label, out in zip(z, logsnr, condition.label, found, strict=True):
        expected = oracle.network(np.float64(image), float(level), int(label), exact, config)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_network_predicts_zero(name):
    network = Network(CONFIGS[name])
    weights = jax.jit(network.init)(jax.random.key(0))
    out = jax.jit(network.apply)(weights, *configs.inputs(CONFIGS[name]))
    assert out.shape == (3, *CONFIGS[name].image_shape)
    assert out.dtype == jnp.float32
    assert (out == 0).all()


def test_levels_that_change_nothing_are_the_identity_on_their_skip():
    """Random projections down and up, identity blocks: what was read in is painted as it was."""
    network, weights = fresh_inside(
        RESIDUAL, random=("patch_", "norm_out", "down", "up", "conditioning")
    )
    z, logsnr, condition = configs.inputs(RESIDUAL)
    found = jax.jit(network.apply)(weights, z, logsnr, condition)
    exact = configs.float64(weights)
    for image, out in zip(z, found, strict=True):
        h = oracle.patches_in(np.float64(image), oracle.scoped(exact, "patch_in"))
        h = oracle.swish(oracle.group_norm(h, oracle.scoped(exact, "norm_out")))
        expected = oracle.patches_out(h, oracle.scoped(exact, "patch_out"))
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_the_middle_reaches_the_output_through_its_change_alone():
    """A middle that changes its input by a constant c adds Up(c) to the skip, whatever came in."""
    network, weights = fresh_inside(RESIDUAL, random=("patch_", "down", "up"))
    constant = jnp.asarray(np.random.default_rng(3).normal(size=6), jnp.float32)
    changed = weights | {"middle/blocks/0/conv_out/bias": constant}
    z, logsnr, condition = configs.inputs(RESIDUAL)
    lifted = constant @ weights["up/0/project/kernel"]
    moved = weights | {"patch_in/bias": weights["patch_in/bias"] + lifted}
    # Moving the skip itself also moves the way down, but the residual takes that out again.
    apply = jax.jit(network.apply)
    out, expected = (apply(one, z, logsnr, condition) for one in (changed, moved))
    assert jnp.abs(out - apply(weights, z, logsnr, condition)).max() > 0.01
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_the_null_class_is_a_class_of_its_own():
    config = configs.tiny()
    network = Network(config)
    weights = configs.weights(network)
    z, logsnr, _ = configs.inputs(config)
    apply = jax.jit(network.apply)
    outs = [np.asarray(apply(weights, z, logsnr, tiny.labels([label] * 3))) for label in range(5)]
    for a in range(5):
        for b in range(a):
            assert np.abs(outs[a] - outs[b]).max() > 1e-3
    row = weights["conditioning/classes/embedding"]
    other = weights | {"conditioning/classes/embedding": row.at[4].add(1.0)}
    assert (apply(other, z, logsnr, tiny.labels([3] * 3)) == outs[3]).all()
    assert (apply(other, z, logsnr, tiny.labels([4] * 3)) != outs[4]).any()


def test_dropout_acts_by_its_key_and_not_without_one():
    config = configs.tiny()
    network = Network(config)
    weights, inputs = configs.weights(network), configs.inputs(config)
    apply = jax.jit(network.apply)
    off, again = apply(weights, *inputs), apply(weights, *inputs)
    first, same, other = (apply(weights, *inputs, jax.random.key(seed)) for seed in (0, 0, 1))
    assert (off == again).all()
    assert (first == same).all()
    assert (first != off).any()
    assert (first != other).any()


def test_blocks_of_one_level_drop_different_places():
    """Equal blocks whose change is independent of their input: one key would drop equal places."""
    config = configs.tiny(blocks=("res", "res"), channels=(4, 6), dropout=(0.5, 0.5))
    level = Level(config, 0, 2, Execution(), nnx.Rngs(0))
    for block in level.blocks:
        block.norm_out.scale[...] = jnp.zeros(4)
        block.norm_out.bias[...] = jnp.arange(4.0)
        block.conv_out.kernel[...] = jnp.ones((3, 3, 4, 4))
    first = level.blocks[0]
    h, condition = jnp.ones((1, 4, 4, 4)), Embedded(jnp.ones((1, 8)))

    @jax.jit
    def changes(key):
        both = level(h, condition, key)
        one = first(h, condition, None if key is None else jax.random.fold_in(key, 0))
        return one - h, both - one

    np.testing.assert_allclose(*changes(None), rtol=1e-5)
    alone, second = changes(jax.random.key(0))
    assert jnp.abs(alone - second).max() > 0.1


@pytest.mark.parametrize(
    ("shape", "patch", "levels", "factor"),
    [((10, 8, 1), 2, 2, 4), ((8, 10, 1), 2, 2, 4), ((12, 12, 3), 1, 4, 8), ((8, 8, 1), 8, 2, 16)],
)
def test_images_that_do_not_divide_are_refused_with_what_to_change(shape, patch, levels, factor):
    with pytest.raises(ModelError) as caught:
        configs.tiny(
            image_shape=shape,
            patch_size=patch,
            channels=(4,) * levels,
            blocks=("res",) * levels,
            encoder_depth=(1,) * (levels - 1),
            decoder_depth=(1,) * (levels - 1),
            dropout=(0.0,) * levels,
        )
    message = str(caught.value)
    assert f"images of {shape[0]}×{shape[1]} do not divide by {factor}" in message
    assert "model.patch_size" in message
    assert isinstance(caught.value, Sid2Error)


def test_grids_halve_from_level_to_level():
    config = configs.tiny(image_shape=(32, 64, 3), patch_size=4)
    assert [config.grid(level) for level in range(2)] == [(8, 16), (4, 8)]
