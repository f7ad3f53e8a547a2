"""The sampling plan: where guidance acts, and how many network evaluations an image costs."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.diffusion.guidance import (
    EVERYWHERE,
    NEVER,
    AutoGuidance,
    ConstantGuidance,
    IntervalGuidance,
    NoGuidance,
)
from sid2core.diffusion.samplers import ADDIM, DDIM, DDPM, DPMSolver, Heun, SamplingPlan
from sid2core.diffusion.schedule import Cosine, CosineInterpolated

SCHEDULE = CosineInterpolated(512)
PLAIN = DDIM()
SAMPLERS = [DDPM(), DDIM(), ADDIM(), DPMSolver(), Heun()]


def logsnr(times):
    """Log-SNR of SCHEDULE by its formula: -2 log tan(a t + b) + 2 t log(32 / 512)."""
    b = np.arctan(np.exp(-5.0))
    a = np.arctan(np.exp(5.0)) - b
    return -2 * np.log(np.tan(a * times + b)) + times * 2 * np.log(32 / 512)


@settings(max_examples=60, deadline=None)
@given(
    sampler=st.sampled_from(SAMPLERS),
    steps=st.integers(1, 600),
    low=st.floats(-25, 15),
    width=st.floats(0.01, 30),
    t_start=st.floats(0.01, 1.0),
)
def test_runs_cover_every_step_once_and_each_evaluation_is_guided_by_its_own_level(
    sampler, steps, low, width, t_start
):
    high = low + width
    plan = SamplingPlan(sampler, steps, SCHEDULE, (low, high), t_start)
    runs = plan.runs
    assert [i for run in runs for i in range(run.start, run.stop)] == list(range(steps))
    assert all(a.guided != b.guided for a, b in itertools.pairwise(runs))
    evaluations = 0
    for run in runs:
        index = np.arange(run.start, run.stop)
        assert len(run.guided) == (1 if steps - 1 in index else sampler.evaluations_per_step)
        for end, guided in enumerate(run.guided):
            lam = logsnr(t_start * (1 - (index + end) / steps))
            clear = (np.abs(lam - low) > 1e-9) & (np.abs(lam - high) > 1e-9)
            assert np.all(((low < lam) & (lam < high))[clear] == guided)
            evaluations += len(index) * (1 + guided)
    assert plan.nfe == evaluations


@pytest.mark.parametrize(
    "guidance",
    [
        NoGuidance(),
        ConstantGuidance(0.0),
        IntervalGuidance(0.0, -3.0, 5.0),
        AutoGuidance(0.0, -3.0, 5.0),
        IntervalGuidance(2.0, 20.0, 30.0),
    ],
    ids=str,
)
@pytest.mark.parametrize(("sampler", "nfe"), [(DDPM(), 12), (DPMSolver(), 12), (Heun(), 23)])
def test_without_guidance_only_the_sampler_counts(guidance, sampler, nfe):
    assert SamplingPlan(sampler, 12, SCHEDULE, guidance.interval).nfe == nfe


@pytest.mark.parametrize(("sampler", "nfe"), [(DDPM(), 24), (DPMSolver(), 24), (Heun(), 46)])
def test_guidance_everywhere_doubles_the_evaluations(sampler, nfe):
    for guidance in (ConstantGuidance(1.0), AutoGuidance(0.3), IntervalGuidance(1.0, -99.0, 99.0)):
        assert SamplingPlan(sampler, 12, SCHEDULE, guidance.interval).nfe == nfe


def test_the_interval_is_open_and_a_step_counts_by_its_start():
    """The plain cosine is 0 at t = 1/2 exactly; steps start at t = 1, 3/4, 1/2, 1/4."""

    def plan(low, high, sampler=PLAIN):
        return SamplingPlan(sampler, 4, Cosine(), (low, high))

    assert plan(0.0, 5.0).logsnr[2] == 0.0
    assert plan(0.0, 5.0).nfe == 4 + 1
    assert plan(-0.1, 5.0).nfe == 4 + 2
    assert plan(-5.0, 0.0).nfe == 4 + 1
    assert plan(-5.0, 1.0).runs == [(0, 1, (False,)), (1, 3, (True,)), (3, 4, (False,))]
    # Heun evaluates at the end of steps 0, 1, 2 too: at t = 3/4, 1/2, 1/4.
    assert plan(-0.1, 1.0, Heun()).runs == [
        (0, 1, (False, False)),
        (1, 2, (False, True)),
        (2, 3, (True, False)),
        (3, 4, (False,)),
    ]
    assert plan(-0.1, 1.0, Heun()).nfe == 7 + 2


def test_evaluations_of_the_published_setting():
    """512 steps on (-3, 5), counted from the formula."""
    lam = logsnr(np.arange(512, 0, -1) / 512)
    guided = int(np.sum((lam > -3) & (lam < 5)))
    assert 100 < guided < 400
    assert SamplingPlan(DDPM(), 512, SCHEDULE, (-3.0, 5.0)).nfe == 512 + guided
    assert SamplingPlan(DDPM(), 512, SCHEDULE, EVERYWHERE).nfe == 1024
    assert SamplingPlan(DDPM(), 512, SCHEDULE, NEVER).nfe == 512


def test_a_plan_is_a_static_argument():
    seen = []

    def traced(plan, x):
        seen.append(plan)
        return x * plan.nfe

    count = jax.jit(traced, static_argnums=0)
    for _ in range(2):
        assert count(SamplingPlan(DDIM(), 3, SCHEDULE, EVERYWHERE), 1) == 6
    assert len(seen) == 1


class ThreeEvaluations(DDIM):
    evaluations_per_step = 3


def test_refusals():
    with pytest.raises(ValueError, match="steps is 0"):
        SamplingPlan(DDIM(), 0, SCHEDULE)
    with pytest.raises(ValueError, match="t_start is 1.5"):
        SamplingPlan(DDIM(), 2, SCHEDULE, t_start=1.5)
    with pytest.raises(ValueError, match="evaluations_per_step is 3, expected 1"):
        SamplingPlan(ThreeEvaluations(), 2, SCHEDULE)
