"""The conditions of samples that continue given frames, and the clips that are measured."""

import numpy as np
import pytest

from sid2core.conditioning import ConditionSpec, captioned, taken
from sid2core.evaluation import sample_conditions
from sid2core.evaluation.drawing import RealSet
from tests.data import stored
from tests.evaluation.samplers import run

SHAPE, SEED = (5, 2, 2, 1), 3
SPEC = ConditionSpec.of_classes(2).with_given(2, SHAPE)


@pytest.fixture
def data():
    clips, labels = stored.records(7, SHAPE)
    return stored.dataset(clips, labels, "ab")


@pytest.mark.parametrize("drawn", [False, True])
def test_each_sample_continues_another_clip(data, drawn):
    """In an order that the seed decides; frames are read when they are asked for."""
    condition = sample_conditions.conditions(SPEC, data, 9, SEED, drawn=drawn)
    rows, _ = captioned(9, 7, SEED)
    part = taken(condition, slice(2, 9))
    assert (part.given.frames == data.images[rows[2:], :2]).all()
    assert (part.label == data.labels[rows[2:]]).all()
    assert not isinstance(condition.given.frames, np.ndarray)


def test_real_clips_are_whole(data, tmp_path):
    one = RealSet("real", data, SPEC, np.array([4, 1]))
    images, _ = one.source(run(tmp_path))(one.indices, one.condition(slice(None)))
    assert (images == data.images[[4, 1]]).all()
