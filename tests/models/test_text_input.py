"""Text in the network: padding changes nothing, each option is a part of it, its cost counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.conditioning import Condition, ConditionSpec, Text
from sid2core.models import cost
from sid2core.models.network import Network
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


def output(net, given):
    count = len(given.mask)
    z = np.random.default_rng(9).normal(size=(1, 8, 8, 3)).astype(np.float32).repeat(count, 0)
    condition = Condition(text=Text(*map(jnp.asarray, given)))
    return np.asarray(net.apply(configs.weights(net), jnp.asarray(z), jnp.zeros(count), condition))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_behind_a_caption_does_not_count(kind):
    net, given = network(kind), text(kind, (5, 3, 1))
    expected = output(net, given)
    other = np.where(
        given.mask.reshape(*given.mask.shape, *(1,) * (given.tokens.ndim - 2)),
        given.tokens,
        text(kind, (5, 3, 1), seed=1).tokens,
    )
    np.testing.assert_allclose(output(net, Text(other, given.mask)), expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_padding_to_twice_the_length_does_not_count():
    kind = KINDS["vectors"]
    net, given = network(kind), text(kind, (5, 3, 1))
    padded = Text(*(np.concatenate([one, np.zeros_like(one)], 1) for one in given))
    np.testing.assert_allclose(output(net, padded), output(net, given), atol=1e-5)


@pytest.mark.parametrize("options", [(True, False), (False, True), (False, False)])
def test_each_option_is_a_part_of_the_network(options):
    kind, (positions, pooled) = KINDS["vectors"], options
    net = network(kind, text_positions=positions, text_pooled=pooled)
    names = {name.split("/")[1] for name in net.shapes() if name.startswith("text/")}
    assert names == {"linear", *["positions"] * positions, *["pooled"] * pooled}
    given = text(kind, (5, 5))
    turned = Text(given.tokens[:, ::-1], given.mask)
    assert np.allclose(output(net, turned), output(net, given), atol=1e-5) is not positions


def test_tokens_are_as_wide_as_the_conditioning_vector_unless_told():
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
    net, kind = network(KINDS["ids"]), KINDS["ids"]
    given = Text(*map(jnp.asarray, text(kind, (5, 3))))

    def loss(weights):
        z = jnp.ones((2, 8, 8, 3))
        return jnp.square(net.apply(weights, z, jnp.zeros(2), Condition(text=given))).mean()

    gradient = jax.grad(loss)(configs.weights(net))
    own = {name: value for name, value in gradient.items() if name.startswith("text/encoder/")}
    assert own
    assert all(bool(jnp.isfinite(value).all()) for value in own.values())
    assert any(bool(value.any()) for value in own.values())
