"""The forms for CPU against JAX's own, and what is lowered for which device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.models import cpu_forms
from sid2core.models.cpu_forms import convolve

CASES = {
    "square": ((3, 6, 6, 4), (3, 3, 4, 5)),
    "oblong": ((2, 5, 9, 3), (3, 3, 3, 2)),
    "narrower than the window": ((2, 1, 2, 3), (3, 3, 3, 2)),
    "video": ((2, 3, 4, 5, 2), (3, 3, 3, 2, 3)),
    "wide window": ((2, 7, 8, 2), (5, 3, 2, 2)),
}


def numbers(rank):
    axes = "DHW"[-(rank - 2) :]
    return (f"N{axes}C", f"{axes}IO", f"N{axes}C")


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_tangents_are_those_of_the_plain_convolution(name):
    shape, window = CASES[name]
    draws = np.random.default_rng(0)
    x, kernel = (jnp.asarray(draws.normal(size=size), jnp.float32) for size in (shape, window))
    strides = (1,) * (len(shape) - 2)

    def outputs(convolution):
        def loss(x, kernel):
            y = convolution(x, kernel, strides, "SAME", dimension_numbers=numbers(len(shape)))
            return jnp.sum(jnp.sin(y)), y

        (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, kernel)
        tangents = (jnp.cos(x), jnp.cos(kernel))
        _, change = jax.jvp(lambda *both: loss(*both)[1], (x, kernel), tangents)
        return (y, *gradients, change)

    found, expected = outputs(convolve), outputs(jax.lax.conv_general_dilated)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 2), "padding": "VALID"},
        {"window_strides": (1, 1), "padding": "VALID"},
        {"window_strides": (1, 1), "padding": "SAME", "rhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
    ],
)
def test_other_convolutions_are_the_plain_ones(options):
    draws = np.random.default_rng(0)
    groups = options.get("feature_group_count", 1)
    x = jnp.asarray(draws.normal(size=(2, 6, 6, 4)), jnp.float32)
    kernel = jnp.asarray(draws.normal(size=(3, 3, 4 // groups, 4)), jnp.float32)
    arguments = {"dimension_numbers": numbers(4), **options}
    found = convolve(x, kernel, **arguments)
    np.testing.assert_array_equal(found, jax.lax.conv_general_dilated(x, kernel, **arguments))


def lowered(function, platform, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_devices_have_the_librarys_convolution_of_clips(platform):
    x, kernel = jnp.ones((2, 3, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 2))

    def gradient(convolution):
        def loss(x, kernel):
            y = convolution(x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers(5))
            return jnp.sum(y**2)

        return jax.grad(loss, 1)

    found = lowered(gradient(convolve), platform, x, kernel)
    expected = lowered(gradient(jax.lax.conv_general_dilated), platform, x, kernel)
    count = "stablehlo.convolution"
    assert found.count(count) == expected.count(count) == 2
    frames_as_channels = "stablehlo.concatenate"
    assert frames_as_channels not in found
    assert frames_as_channels in lowered(gradient(convolve), "cpu", x, kernel)


def test_groups_are_spread_over_their_channels():
    groups = jnp.asarray([[1.0, 2.5, -3.0]])
    expected = [[1.0, 1.0, 2.5, 2.5, -3.0, -3.0]]
    np.testing.assert_array_equal(cpu_forms.spread(groups, 6), expected)
    assert "dot_general" in lowered(lambda one: cpu_forms.spread(one, 6), "cpu", groups)
    assert "dot_general" not in lowered(lambda one: cpu_forms.spread(one, 6), "cuda", groups)
