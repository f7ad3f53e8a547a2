"""Samplers of a network that is a formula, image sets of them, and runs on their images."""

from contextlib import contextmanager

import numpy as np
import pytest

from sid2core.conditioning import Condition
from sid2core.diffusion.clipping import StaticClip
from sid2core.diffusion.guidance import NoGuidance
from sid2core.diffusion.parametrisation import Prediction
from sid2core.diffusion.samplers import DDPM
from sid2core.diffusion.schedule import CosineInterpolated
from sid2core.evaluation import chunks, sample_sets
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.inference.generator import Denoiser, Generator, Method
from tests import tiny
from tests.data import stored
from tests.metrics.evaluators import mean_colour_evaluator

SEED = 3
LABELS = np.arange(10, dtype=np.int32) % 3
CONDITION = Condition(label=LABELS)


def spec(guidance=None, steps=3, scale=0.4):
    denoiser = Denoiser(tiny.Affine(), Prediction.X)
    schedule = CosineInterpolated(4, 4)
    method = Method(denoiser, schedule, DDPM(), guidance or NoGuidance(), steps, StaticClip())
    return SamplerSpec("base", "the base", method, tiny.affine(scale, -0.4, 0.0, 0.4, 0.1))


def samples(one=None, keep=10):
    return sample_sets.evaluated(one or spec(), CONDITION, 10, keep, SEED)


def run(folder, chunk_size=4, batch_size=4, sharding=None):
    evaluator = mean_colour_evaluator()
    return EvaluationRun("evaluate", folder, evaluator, batch_size, sharding, chunk_size)


def grid(columns, one=None):
    return sample_sets.grid(one or spec(), real(), columns, SEED)


def baseline(count, seed=SEED):
    return sample_sets.real_baseline(real(), real().condition, count, seed)


def real(count=30):
    """Image n shows n in every pixel."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 1), np.uint8)
    labels = np.arange(count, dtype=np.int32) % 3
    return stored.dataset(images, labels, "abc", [7, 7, 7, 9])


def count_images(monkeypatch):
    """The numbers of images that generators draw from now on, call by call."""
    images, calls = Generator.images, []

    def counted(self, stream, indices, condition):
        calls.append(len(indices))
        return images(self, stream, indices, condition)

    monkeypatch.setattr(Generator, "images", counted)
    return calls


@contextmanager
def stopped_after(monkeypatch, count):
    """The body is stopped when it would write more than ``count`` chunk files."""
    write, written = chunks.write, []

    def stops(path, arrays):
        if len(written) == count:
            raise KeyboardInterrupt
        written.append(path)
        write(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "write", stops)
        with pytest.raises(KeyboardInterrupt):
            yield
