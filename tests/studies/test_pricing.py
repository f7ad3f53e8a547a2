"""The price of missing runs: each distinct training once."""

import pytest

from sid2core.conditioning import ConditionSpec
from sid2core.config import build
from sid2core.models import cost
from sid2core.studies import pricing
from tests.studies import studies

SPEC = ConditionSpec.of_classes(10)


def price(runs, done=()):
    return pricing.price(runs, done, lambda _: ((8, 8, 1), SPEC))


def test_trainings_count_once_and_three_forward_passes():
    runs = studies.all_runs(
        variants={"one": {"distill.steps": [1]}, "two": {"distill.steps": [2]}},
        claims=[{"words": "w", "order": ["two", "one"]}],
    )
    found, params = price(runs), runs[0].params
    forward = 1e9 * cost.forward_gflops(build.network(params.model, (8, 8, 1), SPEC))
    assert found.trainings == 3
    examples = params.train.steps * params.train.batch_size
    assert found.training == pytest.approx(3 * 3 * forward * examples)
    assert price(runs[3:], runs[:3]).trainings == 0
    assert price(runs[3:], runs[:3]).drawing == pytest.approx(found.drawing / 2, rel=0.1)
    assert sum((found.training, found.search, found.distillation, found.drawing)) == found.total
    text = "\n".join(pricing.lines(found, forward, "a machine", 1))
    assert "training (3 times)" in text
