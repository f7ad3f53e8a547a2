"""Guidance: exact where it is off, the published extrapolation where it is on."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from sid2core.diffusion.clipping import DynamicClip, NoClip, StaticClip
from sid2core.diffusion.guidance import (
    AutoGuidance,
    ConstantGuidance,
    IntervalGuidance,
    Negative,
    NoGuidance,
    acts,
    combine,
    guided_x,
)
from sid2core.diffusion.samplers import ADDIM, DDIM, DDPM, SamplingPlan, sample, sample_guided
from sid2core.diffusion.schedule import CosineInterpolated

SCHEDULE = CosineInterpolated(512)
SHAPE = (4, 4, 2)
KEYS = jax.random.split(jax.random.key(0), 3)
PLAIN, STATIC = DDIM(), StaticClip()
OFF = [
    NoGuidance(),
    ConstantGuidance(0.0),
    IntervalGuidance(0.0, -3.0, 5.0),
    AutoGuidance(0.0),
    AutoGuidance(0.0, -3.0, 5.0),
]


def positive(z, logsnr, xp=jnp):
    return xp.tanh(0.8 * z + 0.02 * logsnr[:, None, None, None])


def negative(z, logsnr, xp=jnp):
    return 0.4 * xp.roll(z, 1, axis=1)


def forbidden(z, logsnr):
    raise AssertionError("the negative network was evaluated")


# Small programs spend their time in the compiler: this compiles them three times faster.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def pair(seed, *shape):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))


@functools.cache
def conditional_images():
    plan = SamplingPlan(PLAIN, 12, SCHEDULE)
    return compiled(lambda keys: sample(keys, positive, SHAPE, plan=plan))(KEYS)


def run(guidance, negative=negative, sampler=PLAIN, steps=12, clip_x=STATIC, init=None):
    plan = SamplingPlan(sampler, steps, SCHEDULE, guidance.interval)

    @compiled
    def images(keys, weight):
        return sample_guided(
            keys, positive, negative, SHAPE, plan=plan, weight=weight, clip_x=clip_x, init=init
        )

    return np.asarray(images(KEYS, guidance.weight))


@pytest.mark.parametrize("guidance", [*OFF, IntervalGuidance(2.0, 20.0, 30.0)], ids=str)
def test_without_effect_it_is_the_conditional_model_exactly(guidance):
    """To the last bit, and the negative network is not even traced."""
    np.testing.assert_array_equal(run(guidance, forbidden), conditional_images())


@pytest.mark.parametrize("guidance", OFF, ids=str)
def test_the_interval_is_empty_where_guidance_never_acts(guidance):
    assert not acts(guidance.interval, np.array([-np.inf, -3.0, 0.0, 5.0, np.inf])).any()


@pytest.mark.parametrize(
    ("guidance", "interval"),
    [
        (ConstantGuidance(1.0), (-math.inf, math.inf)),
        (ConstantGuidance(-0.5), (-math.inf, math.inf)),
        (IntervalGuidance(1.0, -3.0, 5.0), (-3.0, 5.0)),
        (AutoGuidance(0.5), (-math.inf, math.inf)),
        (AutoGuidance(0.5, logsnr_max=0.0), (-math.inf, 0.0)),
        (AutoGuidance(0.5, logsnr_min=0.0), (0.0, math.inf)),
    ],
    ids=str,
)
def test_the_interval(guidance, interval):
    assert guidance.interval == interval


def recursion(z, weight, interval, steps):
    """DDIM in float64, with x_bad + w (x_good - x_bad), w = 1 + g, inside the interval."""
    t = np.linspace(1.0, 0.0, steps + 1)
    b = np.arctan(np.exp(-5.0))
    a = np.arctan(np.exp(5.0)) - b
    levels = -2 * np.log(np.tan(a * t + b)) + t * 2 * np.log(32 / 512)
    alpha, sigma = np.sqrt(expit(levels)), np.sqrt(expit(-levels))
    for i in range(steps):
        lam = np.full(len(z), levels[i])
        x = good = positive(z, lam, np)
        if interval[0] < levels[i] < interval[1]:
            bad = negative(z, lam, np)
            x = bad + (1 + weight) * (good - bad)
        z = alpha[i + 1] * x + sigma[i + 1] / sigma[i] * (z - alpha[i] * x)
    return x


@pytest.mark.parametrize(
    "guidance",
    [
        ConstantGuidance(1.0),
        IntervalGuidance(1.5, -3.0, 5.0),
        AutoGuidance(0.7),
        AutoGuidance(2.0, -3.0, 5.0),
        AutoGuidance(0.5, logsnr_max=0.0),
    ],
    ids=str,
)
def test_every_kind_is_the_published_extrapolation_within_its_bounds(guidance):
    bounds = [getattr(guidance, name, None) for name in ("logsnr_min", "logsnr_max")]
    low, high = (
        limit if bound is None else bound
        for bound, limit in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    start = 0.3 * np.random.default_rng(3).normal(size=(3, *SHAPE))
    expected = recursion(start, guidance.weight, (low, high), 12)
    found = run(guidance, clip_x=NoClip(), init=jnp.asarray(start, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.max(np.abs(expected - recursion(start, 0.0, (low, high), 12))) > 1e-2


@pytest.mark.parametrize(
    ("sampler", "clip_x"),
    [(DDPM(), StaticClip()), (DDIM(), NoClip()), (ADDIM(), DynamicClip())],
    ids=str,
)
def test_the_interval_sampler_equals_the_naive_one(sampler, clip_x):
    """The naive one evaluates both networks at every step, masks, and samples without guidance."""
    weight, low, high = 1.5, -3.0, 5.0

    def masked(z, logsnr):
        x_cond, x_neg = positive(z, logsnr), negative(z, logsnr)
        on = ((logsnr > low) & (logsnr < high))[:, None, None, None]
        return jnp.where(on, (1 + weight) * x_cond - weight * x_neg, x_cond)

    plan = SamplingPlan(sampler, 24, SCHEDULE)
    naive = compiled(lambda keys: sample(keys, masked, SHAPE, plan=plan, clip_x=clip_x))(KEYS)
    interval = run(IntervalGuidance(weight, low, high), sampler=sampler, steps=24, clip_x=clip_x)
    np.testing.assert_allclose(interval, naive, rtol=1e-4, atol=1e-5)


def test_one_compilation_serves_all_weights():
    traced, plan = [], SamplingPlan(PLAIN, 4, SCHEDULE, ConstantGuidance(1.0).interval)

    def counted(z, logsnr):
        traced.append(len(z))
        return positive(z, logsnr)

    images = compiled(
        lambda keys, weight: sample_guided(keys, counted, negative, SHAPE, plan=plan, weight=weight)
    )
    first, count = images(KEYS, 0.5), len(traced)
    assert np.max(np.abs(np.asarray(images(KEYS, 2.0) - first))) > 1e-2
    assert len(traced) == count


@pytest.mark.parametrize("t_start", [1.0, 0.7])
@pytest.mark.parametrize(
    "guidance",
    [
        NoGuidance(),
        ConstantGuidance(1.0),
        IntervalGuidance(1.0, -8.0, 5.0),
        IntervalGuidance(1.0, -0.001, 0.001),
        AutoGuidance(0.5, logsnr_max=0.0),
    ],
    ids=str,
)
def test_counted_evaluations_are_made(guidance, t_start):
    calls = {"positive": 0, "negative": 0}

    def probe(name, network):
        def count(_):
            calls[name] += 1

        def counted(z, logsnr):
            jax.debug.callback(count, z[0, 0, 0, 0])
            return network(z, logsnr)

        return counted

    plan = SamplingPlan(DDIM(), 16, SCHEDULE, guidance.interval, t_start)
    networks = probe("positive", positive), probe("negative", negative)
    images = compiled(
        lambda keys: sample_guided(keys, *networks, SHAPE, plan=plan, weight=guidance.weight)
    )(KEYS)
    jax.block_until_ready(images)
    jax.effects_barrier()
    assert calls["positive"] == 16
    assert sum(calls.values()) == plan.nfe


def test_combine():
    x, y = pair(0, 3, 5)
    np.testing.assert_allclose(combine(x, y, 1.5), 2.5 * x - 1.5 * y, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(combine(x, y, 0.0), x)
    np.testing.assert_array_equal(combine(x, x, 7.0), x)
    assert combine(x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), 1.0).dtype == jnp.float32


def test_guided_x_decides_for_each_example():
    x, y = pair(2, 5, 4, 4, 1)
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
    with pytest.raises(ValueError, match="negative is None"):
        run(ConstantGuidance(1.0), None)
    with pytest.raises(ValueError, match=r"interval is \(5.0, -3.0\)"):
        IntervalGuidance(1.0, 5.0, -3.0)
    for weight in (0.0, 1.0):
        with pytest.raises(ValueError, match="interval"):
            AutoGuidance(weight, 2.0, 1.0)
