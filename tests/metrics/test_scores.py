import numpy as np
import pytest

from sid2core.metrics import frechet, scores, statistics
from sid2core.metrics.frechet import bias_constant
from sid2core.metrics.kernel_distance import kid
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.precision_recall import density_coverage, precision_recall
from tests import tiny
from tests.metrics.evaluators import mean_colour_evaluator

SAMPLES = np.random.default_rng(1).integers(0, 230, (60, 4, 4, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def found():
    """Accumulator, reference, and the scores by name."""
    evaluator = mean_colour_evaluator()
    accumulator, reference = evaluator.accumulator(), evaluator.references[0]
    accumulator.add(SAMPLES, tiny.labels([0] * 60))
    rows = scores.of(
        accumulator, reference, {"published": reference.moments["eval"]}, infinity=True
    )
    return accumulator, reference, {row.metric: row for row in rows}


def test_every_score_is_its_definition(found):
    accumulator, reference, rows = found
    pool, own = accumulator.features(reference, POOL), accumulator.moments(reference)
    expected = {
        "fd_train": statistics.distance(own, reference.moments["train"]),
        "fd_eval": statistics.distance(own, reference.moments["eval"]),
        "fd_published": statistics.distance(own, reference.moments["eval"]),
        "kd_train": kid(pool, reference.train_features).mean,
        **precision_recall(reference.train_features, pool)._asdict(),
        **density_coverage(reference.train_features, pool)._asdict(),
    }
    assert {name: rows[name].value for name in expected} == pytest.approx(expected, rel=1e-12)
    extrapolated = {f"fd_{name}_infinity" for name in ("train", "eval", "published")}
    assert set(rows) == set(expected) | extrapolated
    assert {row.samples for row in rows.values()} == {60}
    assert {row.extractor for row in rows.values()} == {"classifier"}


def test_a_distance_stands_beside_its_bias_and_its_interval(found):
    _, reference, rows = found
    for split in ("train", "eval"):
        row = rows[f"fd_{split}"]
        assert row.low <= row.value - row.bias * 0.2
        assert row.low < row.high
        assert row.bias == bias_constant(reference.moments[split].sigma) / 60
    assert rows["kd_train"].std is not None
    assert rows["precision"].low is None


def test_covariances_and_roots_are_computed_once_for_all_references(monkeypatch):
    evaluator, calls, root = mean_colour_evaluator(), [], frechet._root
    monkeypatch.setattr(frechet, "_root", lambda *args: (calls.append(1), root(*args))[1])
    accumulator, reference = evaluator.accumulator(), evaluator.references[0]
    accumulator.add(SAMPLES, tiny.labels([0] * 60))
    scores.of(accumulator, reference, {}, infinity=True)
    references, samples, halves, subsets = 2, 1, 2 * 32, 15
    assert len(calls) == references + samples + halves + subsets
