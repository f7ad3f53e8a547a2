"""Guidance: exact where it is off, equal to the naive sampler where it is on, counted."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.diffusion.guidance import (
    AutoGuidance,
    ConstantGuidance,
    IntervalGuidance,
    Negative,
    NoGuidance,
    combine,
    guided_x,
    segments,
)
from sid2core.diffusion.samplers import ADDIM, DDIM, DDPM, sample, sample_guided
from sid2core.diffusion.schedule import Cosine, CosineInterpolated

SCHEDULE = CosineInterpolated(512)
SHAPE = (4, 4, 2)
KEYS = jax.random.split(jax.random.key(0), 3)
PLAIN = DDIM()


def positive(z, logsnr):
    return jnp.tanh(0.8 * z + 0.02 * logsnr[:, None, None, None])


def negative(z, logsnr):
    return 0.4 * jnp.roll(z, 1, axis=1)


def forbidden(z, logsnr):
    raise AssertionError("the negative network was evaluated")


# Small programs spend their time in the compiler: this compiles them three times faster.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def draw(seed, *shape):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))


@functools.cache
def conditional_images():
    return compiled(
        lambda keys: sample(keys, positive, SHAPE, schedule=SCHEDULE, sampler=PLAIN, steps=12)
    )(KEYS)


def run(guidance, negative=negative, sampler=PLAIN, steps=12, clip=True, t_start=1.0):
    @compiled
    def images(keys):
        return sample_guided(
            keys,
            positive,
            negative,
            SHAPE,
            guidance=guidance,
            schedule=SCHEDULE,
            sampler=sampler,
            steps=steps,
            clip=clip,
            t_start=t_start,
        )

    return np.asarray(images(KEYS))


@pytest.mark.parametrize(
    "guidance",
    [
        NoGuidance(),
        ConstantGuidance(0.0),
        IntervalGuidance(0.0, -3.0, 5.0),
        AutoGuidance(0.0),
        IntervalGuidance(2.0, 20.0, 30.0),
    ],
    ids=str,
)
def test_weight_zero_is_the_conditional_model_exactly(guidance):
    """To the last bit, and the negative network is not even traced."""
    np.testing.assert_array_equal(run(guidance, forbidden), conditional_images())
    assert guidance.nfe(SCHEDULE, 12) == 12


@pytest.mark.parametrize(
    ("sampler", "clip"), [(DDPM(), True), (DDIM(), False), (ADDIM(), True)], ids=str
)
def test_the_interval_sampler_equals_the_naive_one(sampler, clip):
    """The naive one evaluates both networks at every step, masks, and samples without guidance."""
    weight, low, high = 1.5, -3.0, 5.0

    def masked(z, logsnr):
        x_cond, x_neg = positive(z, logsnr), negative(z, logsnr)
        on = ((logsnr > low) & (logsnr < high))[:, None, None, None]
        return jnp.where(on, (1 + weight) * x_cond - weight * x_neg, x_cond)

    naive = compiled(
        lambda keys: sample(
            keys, masked, SHAPE, schedule=SCHEDULE, sampler=sampler, steps=24, clip=clip
        )
    )(KEYS)
    interval = run(IntervalGuidance(weight, low, high), sampler=sampler, steps=24, clip=clip)
    np.testing.assert_allclose(interval, naive, rtol=1e-4, atol=1e-5)


def test_constant_guidance_is_the_unbounded_interval_and_autoguidance_the_same_formula():
    everywhere = run(ConstantGuidance(1.0))
    assert np.max(np.abs(everywhere - conditional_images())) > 1e-2
    np.testing.assert_array_equal(run(IntervalGuidance(1.0, -100.0, 100.0)), everywhere)
    np.testing.assert_array_equal(run(AutoGuidance(1.0)), everywhere)
    inside = run(IntervalGuidance(1.0, -3.0, 5.0))
    assert np.max(np.abs(everywhere - inside)) > 1e-2
    np.testing.assert_array_equal(run(AutoGuidance(1.0, -3.0, 5.0)), inside)


@pytest.mark.parametrize(
    ("guidance", "steps", "t_start"),
    [
        (NoGuidance(), 5, 1.0),
        (ConstantGuidance(1.0), 7, 1.0),
        (IntervalGuidance(1.0, -3.0, 5.0), 33, 1.0),
        (IntervalGuidance(1.0, -8.0, 5.0), 16, 0.7),
        (IntervalGuidance(1.0, -0.001, 0.001), 16, 1.0),
        (AutoGuidance(0.5, logsnr_max=0.0), 16, 1.0),
        (AutoGuidance(0.5, logsnr_min=0.0), 16, 1.0),
    ],
    ids=str,
)
def test_counted_evaluations_are_made(guidance, steps, t_start):
    calls = {"positive": 0, "negative": 0}

    def probe(name, network):
        def count(_):
            calls[name] += 1

        def counted(z, logsnr):
            jax.debug.callback(count, z[0, 0, 0, 0])
            return network(z, logsnr)

        return counted

    images = compiled(
        lambda keys: sample_guided(
            keys,
            probe("positive", positive),
            probe("negative", negative),
            SHAPE,
            guidance=guidance,
            schedule=SCHEDULE,
            sampler=DDIM(),
            steps=steps,
            t_start=t_start,
        )
    )(KEYS)
    jax.block_until_ready(images)
    jax.effects_barrier()
    assert calls["positive"] == steps
    assert sum(calls.values()) == guidance.nfe(SCHEDULE, steps, t_start)


def test_the_interval_is_open_and_looks_at_the_start_of_a_step():
    """The plain cosine passes 0 at t = 1/2 exactly; steps start at t = 1, 3/4, 1/2, 1/4."""
    levels = Cosine().logsnr_exact(np.array([1.0, 0.75, 0.5, 0.25]))
    assert levels[2] == 0.0
    assert IntervalGuidance(1.0, 0.0, 5.0).nfe(Cosine(), 4) == 4 + 1
    assert IntervalGuidance(1.0, -0.1, 5.0).nfe(Cosine(), 4) == 4 + 2
    assert IntervalGuidance(1.0, -5.0, 0.0).nfe(Cosine(), 4) == 4 + 1
    runs = segments(IntervalGuidance(1.0, -5.0, 1.0), Cosine(), 4)
    assert [tuple(run) for run in runs] == [(0, 1, False), (1, 3, True), (3, 4, False)]


def test_evaluations_of_the_published_setting():
    """512 steps on (-3, 5): counted by hand from the float64 grid."""
    t = np.arange(512, 0, -1) / 512
    b = np.arctan(np.exp(-5.0))
    a = np.arctan(np.exp(5.0)) - b
    lam = -2 * np.log(np.tan(a * t + b)) + t * 2 * np.log(32 / 512)
    guided = int(np.sum((lam > -3) & (lam < 5)))
    assert 100 < guided < 400
    assert IntervalGuidance(1.0, -3.0, 5.0).nfe(SCHEDULE, 512) == 512 + guided
    assert ConstantGuidance(1.0).nfe(SCHEDULE, 512) == 1024


@settings(max_examples=30, deadline=None)
@given(
    steps=st.integers(1, 600),
    low=st.floats(-25, 15),
    width=st.floats(0.01, 30),
    weight=st.sampled_from([0.0, 1.0]),
    t_start=st.floats(0.01, 1.0),
)
def test_segments_cover_every_step_once(steps, low, width, weight, t_start):
    guidance = IntervalGuidance(weight, low, low + width)
    runs = segments(guidance, SCHEDULE, steps, t_start)
    assert [i for run in runs for i in range(run.start, run.stop)] == list(range(steps))
    assert all(run.stop > run.start for run in runs)
    assert all(a.guided != b.guided for a, b in itertools.pairwise(runs))
    for run in runs:
        start = SCHEDULE.logsnr_exact(np.arange(run.start, run.stop) / -steps + 1.0)
        if t_start == 1.0:
            inside = (start > low) & (start < low + width) & (weight != 0)
            assert np.all(inside == run.guided)


def test_combine():
    x, y = draw(0, 3, 5)
    np.testing.assert_allclose(combine(x, y, 1.5), 2.5 * x - 1.5 * y, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(combine(x, y, 0.0), x)
    np.testing.assert_array_equal(combine(x, x, 7.0), x)
    assert combine(x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), 1.0).dtype == jnp.float32


def test_autoguidance_is_the_published_extrapolation():
    """x_bad + w (x_good - x_bad) with w = 1 + g."""
    good, bad = draw(1, 3, 5)
    logsnr = jnp.zeros(3)
    expected = bad + 1.7 * (good - bad)
    np.testing.assert_allclose(
        guided_x(AutoGuidance(0.7), good, bad, logsnr), expected, rtol=1e-5, atol=1e-6
    )


def test_guided_x_decides_for_each_example():
    x, y = draw(2, 5, 4, 4, 1)
    logsnr = jnp.array([-9.0, -3.0, 0.0, 5.0, 9.0])
    found = np.asarray(guided_x(IntervalGuidance(2.0, -3.0, 5.0), x, y, logsnr))
    np.testing.assert_array_equal(found[[0, 1, 3, 4]], x[jnp.array([0, 1, 3, 4])])
    np.testing.assert_allclose(found[2], 3.0 * x[2] - 2.0 * y[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(guided_x(NoGuidance(), x, y, logsnr), x)


def test_every_kind_names_its_negative():
    assert NoGuidance().negative is Negative.NONE
    assert ConstantGuidance(1.0).negative is Negative.UNCONDITIONAL
    assert IntervalGuidance(1.0, -3.0, 5.0).negative is Negative.UNCONDITIONAL
    assert AutoGuidance(1.0).negative is Negative.WORSE_MODEL


def test_refusals():
    with pytest.raises(ValueError, match="the unconditional one as negative"):
        run(ConstantGuidance(1.0), None)
    with pytest.raises(ValueError, match=r"interval is \(5.0, -3.0\)"):
        IntervalGuidance(1.0, 5.0, -3.0)
    with pytest.raises(ValueError, match="interval"):
        AutoGuidance(1.0, 2.0, 1.0)
