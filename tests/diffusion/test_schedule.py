"""Schedules against their float64 formula: end points, slope, inverse, refusals."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.diffusion.schedule import (
    Cosine,
    CosineInterpolated,
    ShiftedCosine,
    cosine,
    cosine_interpolated,
    resolution_shift,
    step_times,
)

TIMES = np.linspace(0.0, 1.0, 4097)
SCHEDULES = [
    Cosine(),
    Cosine(-20.0, 20.0),
    ShiftedCosine(256),
    ShiftedCosine(64, shift="listing"),
    *(CosineInterpolated(size, shift=s) for size in (128, 256, 512) for s in ("sid", "listing")),
    CosineInterpolated(1024, noise_res_high=128),
]


def paper_cosine(t, low=-10.0, high=10.0):
    """-2 log tan(a t + b) as printed, in float64."""
    b = np.arctan(np.exp(-0.5 * high))
    a = np.arctan(np.exp(-0.5 * low)) - b
    return -2.0 * np.log(np.tan(a * t + b))


@pytest.mark.parametrize(
    ("size", "shift", "end"),
    [
        (128, "sid", -12.77),
        (256, "sid", -14.16),
        (512, "sid", -15.55),
        (128, "listing", -8.61),
        (256, "listing", -7.92),
        (512, "listing", -7.23),
    ],
)
def test_end_points(size, shift, end):
    """The end points worked out by hand: -10 + 2 log(32 / size) and -10 + log(size / 32)."""
    ends = cosine_interpolated(jnp.array([0.0, 1.0]), size, shift=shift)
    np.testing.assert_allclose(ends, [10.0, end], atol=0.005)
    exact = -10.0 + (2.0 * math.log(32 / size) if shift == "sid" else math.log(size / 32))
    np.testing.assert_allclose(ends, [10.0, exact], rtol=3e-7)


@pytest.mark.parametrize("shift", ["sid", "listing"])
def test_follows_the_printed_formula(shift):
    size, low, high = 512, 32, 256

    def change(d):
        return 2 * np.log(d / size) if shift == "sid" else np.log(size) - np.log(d)

    expected = paper_cosine(TIMES) + (1 - TIMES) * change(high) + TIMES * change(low)
    found = cosine_interpolated(jnp.asarray(TIMES), size, low, high, shift=shift)
    np.testing.assert_allclose(found, expected, atol=4e-6)
    schedule = CosineInterpolated(size, low, high, shift=shift)
    np.testing.assert_array_equal(schedule.logsnr(TIMES), found)
    np.testing.assert_allclose(schedule.logsnr_exact(TIMES), expected, atol=1e-12)


def test_plain_and_shifted_cosine():
    np.testing.assert_allclose(cosine(TIMES), paper_cosine(TIMES), atol=3e-6)
    np.testing.assert_array_equal(Cosine().logsnr(TIMES), cosine(TIMES))
    shifted = paper_cosine(TIMES) + 2 * np.log(32 / 256)
    np.testing.assert_allclose(ShiftedCosine(256).logsnr(TIMES), shifted, atol=3e-6)


def test_the_high_end_follows_the_image_size():
    for size in (128, 512):
        named = CosineInterpolated(size, noise_res_high=size)
        np.testing.assert_array_equal(named.logsnr(TIMES), CosineInterpolated(size).logsnr(TIMES))


def test_accepts_any_shape_and_keeps_it():
    schedule = CosineInterpolated(512)
    assert schedule.logsnr(0.5).shape == ()
    assert schedule.logsnr(1).dtype == jnp.float32
    assert schedule.logsnr(jnp.full((2, 3), 0.25, jnp.bfloat16)).dtype == jnp.float32
    assert schedule.t_of(jnp.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_monotone_with_the_slope_of_its_derivative(schedule):
    t = jnp.asarray(TIMES, jnp.float32)
    values, slope = jax.jvp(schedule.logsnr, (t,), (jnp.ones_like(t),))
    assert np.all(np.diff(values) < 0)
    np.testing.assert_allclose(schedule.dlogsnr_dt(t), slope, rtol=1e-5)
    h = 1e-6
    middle = TIMES[1:-1]
    rise = schedule.logsnr_exact(middle + h) - schedule.logsnr_exact(middle - h)
    np.testing.assert_allclose(slope[1:-1], rise / (2 * h), rtol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_inverse(schedule):
    t = jnp.linspace(0.0, 1.0, 100_001)
    found = jax.jit(schedule.t_of)(schedule.logsnr(t))
    assert float(jnp.max(jnp.abs(found - t))) <= 1e-6


@settings(max_examples=15, deadline=None)
@given(
    size=st.sampled_from([32, 64, 128, 256, 512, 1024]),
    low=st.floats(8, 64),
    logsnr_min=st.floats(-20, -2),
    logsnr_max=st.floats(2, 20),
    interpolated=st.booleans(),
    t=st.floats(0, 1, width=32),
)
def test_inverse_of_random_schedules(size, low, logsnr_min, logsnr_max, interpolated, t):
    kind = CosineInterpolated if interpolated else ShiftedCosine
    high = (size,) if interpolated else ()
    schedule = kind(size, low, *high, logsnr_min, logsnr_max)
    time = jnp.float32(t)
    assert abs(float(schedule.t_of(schedule.logsnr(time)) - time)) <= 1e-6
    assert float(schedule.dlogsnr_dt(time)) < 0
    assert (
        abs(float(schedule.logsnr(time)) - schedule.logsnr_exact(np.asarray([time], np.float64)))
        < 1e-5
    )


def test_inverse_agrees_with_the_closed_form_of_the_plain_cosine():
    logsnr = np.linspace(-10, 10, 201)
    b, end = np.arctan(np.exp(-5.0)), np.arctan(np.exp(5.0))
    expected = (np.arctan(np.exp(-0.5 * logsnr)) - b) / (end - b)
    np.testing.assert_allclose(Cosine().t_of(logsnr), expected, atol=3e-7)


def test_inverse_is_clipped_and_differentiable():
    schedule = CosineInterpolated(512)
    np.testing.assert_array_equal(schedule.t_of(jnp.array([50.0, -50.0])), [0.0, 1.0])
    logsnr = jnp.linspace(-15.0, 9.5, 50)
    slope = jax.vmap(jax.grad(schedule.t_of))(logsnr)
    np.testing.assert_allclose(slope * schedule.dlogsnr_dt(schedule.t_of(logsnr)), 1.0, rtol=5e-5)


def test_a_schedule_is_static_under_jit():
    @functools.partial(jax.jit, static_argnums=0)
    def end(schedule, t):
        return schedule.logsnr(t)

    np.testing.assert_allclose(end(CosineInterpolated(512), 1.0), -15.545177, rtol=1e-6)
    assert hash(CosineInterpolated(512)) == hash(CosineInterpolated(512))
    assert CosineInterpolated(512) != CosineInterpolated(512, shift="listing")
    with pytest.raises(dataclasses.FrozenInstanceError):
        CosineInterpolated(512).image_size = 256


def test_shift_modes_differ_in_sign_and_factor(unchecked):
    assert resolution_shift(32, 512) == pytest.approx(-2 * math.log(16))
    assert resolution_shift(32, 512, "listing") == pytest.approx(math.log(16))
    with pytest.raises(ValueError, match="shift is 'paper', expected one of"):
        resolution_shift(32, 512, "paper")


def test_refuses_schedules_that_are_not_monotone():
    with pytest.raises(ValueError, match="not be monotone"):
        CosineInterpolated(2**16, noise_res_low=32, shift="listing")
    with pytest.raises(ValueError, match="swap them"):
        Cosine(logsnr_min=10.0, logsnr_max=-10.0)
    with pytest.raises(ValueError, match="noise_res_low up to noise_res_high"):
        CosineInterpolated(64, noise_res_low=1024, noise_res_high=1)
    with pytest.raises(ValueError, match="not be monotone"):
        cosine_interpolated(0.5, 2**16, noise_res_low=32, shift="listing")


@pytest.mark.parametrize(
    "arguments", [(0,), (-3,), (64, 0), (64, 32, -1), (64, float("inf")), (64, float("nan"))]
)
def test_refuses_invalid_sizes(arguments):
    with pytest.raises(ValueError, match="positive numbers of pixels"):
        CosineInterpolated(*arguments)


def test_step_times(unchecked):
    np.testing.assert_array_equal(step_times(4), [1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_array_equal(step_times(2, 0.5), [0.5, 0.25, 0.0])
    np.testing.assert_array_equal(step_times(np.int64(2)), [1.0, 0.5, 0.0])
    for steps in (0, 2.5, 4.0, "4"):
        with pytest.raises(ValueError, match=f"steps is {steps!r}, expected a whole number"):
            step_times(steps)
    with pytest.raises(ValueError, match="t_start is 1.5"):
        step_times(4, 1.5)
