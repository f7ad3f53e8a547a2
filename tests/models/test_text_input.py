"""Text in the network: padding changes nothing, each option is a part of it, its cost counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sid2core.conditioning import Condition, ConditionSpec, Text
from sid2core.models import cost
from sid2core.models.network import Network
from sid2core.models.text_input import TextInput
from sid2core.plan import counting
from tests.models import configs

LEVEL = {
    "channels": (12,),
    "blocks": ("transformer",),
    "encoder_depth": (),
    "decoder_depth": (),
    "dropout": (0.0,),
    "patch_size": 4,
}
KINDS = {"vectors": configs.text_kind(), "ids": configs.learned_kind()}


def network(kind, **changes):
    return Network(configs.tiny(**LEVEL | {"condition": ConditionSpec((kind,))} | changes))


def text(kind, lengths, seed=0):
    """Captions of these lengths; what is beyond is noise."""
    draws, shape = np.random.default_rng(seed), (len(lengths), kind.tokens)
    mask = np.arange(kind.tokens) < np.array(lengths)[:, None]
    if kind.learned:
        return Text(draws.integers(0, kind.vocabulary, shape).astype(np.int32), mask)
    return Text(draws.normal(size=(*shape, kind.channels)).astype(np.float16), mask)


@pytest.fixture(scope="module")
def net():
    return network(KINDS["vectors"])


@pytest.fixture(scope="module")
def apply(net):
    """The network's outputs for captions; the rest of the input is the same for all."""
    compiled, weights = jax.jit(net.apply), configs.weights(net)

    def output(given):
        count = len(given.mask)
        z = np.random.default_rng(9).normal(size=(1, 8, 8, 3)).astype(np.float32).repeat(count, 0)
        condition = Condition(text=Text(*map(jnp.asarray, given)))
        return np.asarray(compiled(weights, jnp.asarray(z), jnp.zeros(count), condition))

    return output


def replaced(kind, given):
    """Other tokens where the mask is false."""
    other, mask = text(kind, (5, 3, 1), seed=1).tokens, given.mask
    mask = mask if kind.learned else mask[..., None]
    return Text(np.where(mask, given.tokens, other), given.mask)


def test_what_is_behind_a_caption_does_not_count(apply):
    kind = KINDS["vectors"]
    given = text(kind, (5, 3, 1))
    expected = apply(given)
    np.testing.assert_allclose(apply(replaced(kind, given)), expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_padding_to_twice_the_length_does_not_count(apply):
    given = text(KINDS["vectors"], (5, 3, 1))
    padded = Text(*(np.concatenate([one, np.zeros_like(one)], 1) for one in given))
    np.testing.assert_allclose(apply(padded), apply(given), atol=1e-5)


def text_input(kind, **options):
    config = configs.tiny(**LEVEL | {"condition": ConditionSpec((kind,))} | options)
    module = TextInput(config, nnx.Rngs(3))
    compiled = jax.jit(lambda given: module(given))
    return lambda given: compiled(Text(*map(jnp.asarray, given)))


def test_a_learned_encoder_does_not_look_at_padding():
    kind = KINDS["ids"]
    given = text(kind, (5, 3, 1))
    embed = text_input(kind)
    (one, pooled), (other, again) = embed(given), embed(replaced(kind, given))
    np.testing.assert_allclose(pooled, again, atol=1e-5)
    mask = given.mask[..., None]
    first, second = (mask * np.asarray(each.tokens) for each in (one, other))
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("options", [(True, False), (False, True), (False, False)])
def test_each_option_is_a_part_of_the_network(options):
    kind, (positions, pooled) = KINDS["vectors"], options
    chosen = {"text_positions": positions, "text_pooled": pooled}
    shapes = network(kind, **chosen).shapes()
    names = {name.split("/")[1] for name in shapes if name.startswith("text/")}
    assert names == {"linear", *["positions"] * positions, *["pooled"] * pooled}
    given, embed = text(kind, (5, 5)), text_input(kind, **chosen)
    one, mean = embed(given)
    other, _ = embed(Text(given.tokens[:, ::-1], given.mask))
    assert np.allclose(one.tokens, np.asarray(other.tokens)[:, ::-1], atol=1e-5) is not positions
    assert (mean is not None) is pooled


def test_tokens_are_as_wide_as_the_conditioning_vector_unless_given():
    kind = KINDS["vectors"]
    assert network(kind).shapes()["text/linear/kernel"].shape == (7, 8)
    assert network(kind, text_channels=6).shapes()["text/linear/kernel"].shape == (7, 6)


def test_the_cost_of_text_by_hand():
    net = network(KINDS["vectors"], mid_depth=2)
    found = {name: 1e9 * value for name, value in cost.text_gflops(net.config).items()}
    # 5 tokens of 7 channels to 8, an embedding of 8; two blocks of 12 channels at 4 positions.
    assert found == pytest.approx(
        {
            "encoder": 0.0,
            "projection": 5 * 7 * 8,
            "pooled": 8 * 8 + 8 * 8,
            "keys and values": 2 * 2 * 5 * 8 * 12,
            "attention": 2 * 2 * 4 * 5 * 12,
        }
    )
    terms = [one.term for one in counting.terms(net.config, 1.0)]
    assert [one for one in terms if one.startswith("text")] == [f"text: {one}" for one in found]
    assert cost.forward_gflops(net.config) * 1e9 == pytest.approx(
        1e9 * sum(cost.level_gflops(net.config)) + sum(found.values())
    )


def test_without_text_nothing_is_added():
    config = configs.tiny()
    assert cost.text_gflops(config) == {}
    assert not [name for name in Network(config).shapes() if "text" in name]


def test_gradients_reach_a_learned_encoder():
    config = configs.tiny(**LEVEL | {"condition": ConditionSpec((KINDS["ids"],))})
    graph, weights = nnx.split(TextInput(config, nnx.Rngs(3)))
    given = Text(*map(jnp.asarray, text(KINDS["ids"], (5, 3))))

    def loss(weights):
        tokens, pooled = nnx.merge(graph, weights)(given)
        return jnp.square(tokens.tokens).mean() + jnp.square(pooled).mean()

    gradient = nnx.to_pure_dict(jax.jit(jax.grad(loss))(weights))["encoder"]
    assert all(bool(jnp.isfinite(value).all()) for value in jax.tree.leaves(gradient))
    assert bool(gradient["embedding"].any())
