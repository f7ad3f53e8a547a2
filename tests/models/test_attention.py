"""Rotations and masks of attention; the formula itself is held against the PyTorch twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.conditioning import ConditionError, Text
from sid2core.models.attention import attend, rotate
from sid2core.models.network import Network
from tests.models import configs


def heads(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("grid", [(6,), (3, 4), (2, 3, 4)])
def test_scores_depend_on_differences_of_positions_alone(grid):
    """The same q and k everywhere: the score of two positions is that of their difference."""
    count, size = int(np.prod(grid)), 12
    q, k = (
        rotate(jnp.broadcast_to(heads((1, 1, 1, size), seed), (1, count, 1, size)), grid)
        for seed in (0, 1)
    )
    scores = np.asarray(jnp.einsum("bnkd,bmkd->nm", q, k))
    places = np.indices(grid).reshape(len(grid), -1).T
    by_difference = {}
    for a, one in enumerate(places):
        for b, other in enumerate(places):
            by_difference.setdefault(tuple(one - other), []).append(scores[a, b])
    for values in by_difference.values():
        np.testing.assert_allclose(values, values[0], atol=1e-5)
    assert np.ptp([values[0] for values in by_difference.values()]) > 0.1


def test_rotating_keeps_lengths_and_the_first_position():
    h = heads((2, 12, 3, 8))
    turned = rotate(h, (3, 4))
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(h, axis=-1), rtol=1e-5
    )
    np.testing.assert_array_equal(turned[:, 0], h[:, 0])


def test_masked_keys_are_as_good_as_absent():
    q, k, v = (heads((2, 5, 2, 4), seed) for seed in range(3))
    mask = jnp.array([[True, True, True, False, False]] * 2)
    found = attend(q, k, v, mask, "xla")
    np.testing.assert_allclose(found, attend(q, k[:, :3], v[:, :3], None, "xla"), atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_is_the_formula_and_so_are_its_gradients(masked):
    """Values and both kinds of derivative against float32, within bfloat16's rounding."""
    q, k, v = (heads((2, 5, 2, 16), seed).astype(jnp.bfloat16) for seed in range(3))
    mask = jnp.array([[True, True, True, False, False]] * 2) if masked else None

    def derivatives(dtype):
        arguments = tuple(one.astype(dtype) for one in (q, k, v))

        def out(q, k, v):
            return attend(q, k, v, mask, "xla").astype(jnp.float32)

        value, change = jax.jvp(out, arguments, arguments[::-1])
        gradient = jax.grad(lambda *qkv: jnp.sum(jnp.sin(out(*qkv))), (0, 1, 2))(*arguments)
        return value, change, *gradient

    for half, exact in zip(derivatives(jnp.bfloat16), derivatives(jnp.float32), strict=True):
        np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=3e-2, rtol=2e-2)


def test_recomputed_attention_has_the_same_gradient():
    q, k, v = (heads((2, 5, 2, 4), seed) for seed in range(3))

    def gradient(kind):
        return jax.grad(lambda q: jnp.sum(jnp.sin(attend(q, k, v, None, kind))))(q)

    np.testing.assert_allclose(gradient("recomputed"), gradient("xla"), atol=1e-6)


def test_text_for_a_model_without_is_refused():
    config = configs.tiny()
    network = Network(config)
    text = Text(jnp.zeros((3, 2, 5)), jnp.ones((3, 2), bool))
    z, logsnr, condition = configs.inputs(config)
    with pytest.raises(ConditionError, match="the condition has text"):
        network.apply(configs.weights(network), z, logsnr, condition._replace(text=text))
