"""The negative that guidance names is the one that is used, or its absence is an error."""

import numpy as np
import pytest

from sid2core import rng
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import AutoGuidance, ConstantGuidance, Negative, NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDPM
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.distillation.teacher import Guided
from sid2core.inference import negatives
from sid2core.inference.denoiser import Denoiser
from sid2core.inference.generator import Generator, Method
from sid2core.inference.negatives import NegativeError, WorseModel
from tests import tiny

SCHEDULE = CosineInterpolated(4, 4)
DENOISER = Denoiser(tiny.Affine(), Prediction.X)
GOOD, BAD = tiny.affine(0.0, -0.2, 0.1, 0.3, 0.1), tiny.affine(0.0, -0.1, 0.2, 0.2, 0.0)


def method(guidance):
    return Method(DENOISER, SCHEDULE, DDPM(), guidance, 3, StaticClip())


def images(guidance, worse=None, negative=None):
    generator = Generator(method(guidance), GOOD, 3, worse=worse)
    condition = tiny.labels([0, 1, 2])
    return generator.images(rng.key(0, "images"), np.arange(3), condition, negative)


def close(found, expected):
    values = np.clip(np.round(127.5 * np.asarray(expected) + 127.5), 0, 255)
    return np.abs(found.mean(axis=(1, 2, 3)) - values).max() <= 1


def test_each_guidance_pushes_away_from_its_own_negative():
    """(1 + g) x − g x_neg, for constant networks."""
    auto = images(AutoGuidance(1.0), worse=WorseModel(DENOISER, BAD))
    constant = images(ConstantGuidance(1.0))
    prompt = images(ConstantGuidance(1.0, Negative.PROMPT), negative=tiny.labels([2, 2, 2]))
    assert close(auto, [-0.3, 0.0, 0.4])
    assert close(constant, [-0.5, 0.1, 0.5])
    assert close(prompt, [-0.7, -0.1, 0.3])


def test_autoguidance_without_a_worse_model_is_an_error():
    """Not the images of classifier-free guidance, as they were bit for bit."""
    with pytest.raises(NegativeError, match=r"needs as its negative a worse model: pass it as "):
        images(AutoGuidance(1.0))
    assert (images(AutoGuidance(0.0)) == images(NoGuidance())).all()


def test_a_prompt_must_be_given():
    with pytest.raises(NegativeError, match="another condition: pass it as negative="):
        images(ConstantGuidance(1.0, Negative.PROMPT))


def test_an_unconditional_model_has_no_null_condition():
    with pytest.raises(NegativeError, match="but the model is unconditional"):
        negatives.check(ConstantGuidance(0.5), ConditionSpec())
    negatives.check(NoGuidance(), ConditionSpec())


def test_a_teacher_needs_its_negative_too():
    with pytest.raises(NegativeError, match="a worse model"):
        Guided(DENOISER, AutoGuidance(1.0))


def test_the_condition_of_an_unconditional_sample_is_empty():
    assert ConditionSpec().null(4) == Condition()
