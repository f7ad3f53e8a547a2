import dataclasses

import numpy as np
import pytest

from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.evaluator import Evaluator
from sid2core.metrics.networks.protocol import POOL
from tests import tiny
from tests.metrics.evaluators import MeanColour, mean_colour_evaluator

RNG = np.random.default_rng(1)
SAMPLES = RNG.integers(0, 99, (60, 4, 4, 1), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 60).astype(np.int32)


@pytest.fixture(scope="module")
def evaluator():
    return mean_colour_evaluator()


def accumulated(evaluator, size=60):
    accumulator = evaluator.accumulator()
    for start in range(0, 60, size):
        accumulator.add(SAMPLES[start : start + size], tiny.labels(LABELS[start : start + size]))
    return accumulator


def test_scores_are_their_definitions(evaluator):
    quality, reference = evaluator.quality(SAMPLES, tiny.labels(LABELS)), evaluator.references[0]
    own = accumulated(evaluator).moments(reference)
    assert quality.samples == 60
    assert quality.distance == "fd"
    assert quality.fd_train == statistics.distance(own, reference.moments["train"])
    assert quality.fd_eval == statistics.distance(own, reference.moments["eval"])
    assert quality.fd_train != pytest.approx(quality.fd_eval, rel=0.01)
    features = evaluator.features(SAMPLES)
    seen = features["classifier.logits"].argmax(axis=-1)
    assert quality.agreement == (seen == LABELS).mean()
    np.testing.assert_allclose(own.mu, features["classifier.pool"].mean(0), rtol=1e-6)
    assert "split" not in own.provenance


@pytest.mark.parametrize("size", [1, 7, 25, 59])
def test_chunks_do_not_matter(evaluator, size):
    assert accumulated(evaluator, size).quality() == accumulated(evaluator).quality()


def test_neither_do_blocks_of_sums(evaluator, monkeypatch):
    expected = accumulated(evaluator).quality()
    monkeypatch.setattr("sid2core.metrics.evaluator._BLOCK", 16)
    found = dataclasses.astuple(accumulated(evaluator, 7).quality())
    assert found[1:4] == pytest.approx(dataclasses.astuple(expected)[1:4], rel=1e-9)


def test_results_may_be_asked_for_on_the_way(evaluator):
    accumulator = evaluator.accumulator()
    accumulator.add(SAMPLES[:30], tiny.labels(LABELS[:30]))
    assert accumulator.quality().samples == 30
    accumulator.add(SAMPLES[30:], tiny.labels(LABELS[30:]))
    assert accumulator.quality() == accumulated(evaluator).quality()


def test_statistics_of_another_extractor_are_refused(evaluator):
    with pytest.raises(MetricsError, match="extractor_digest"):
        mean_colour_evaluator(extractor_digest="other")


def test_quality_is_that_of_the_primary_extractor(evaluator):
    """Here one whose features are twice as large."""
    first = evaluator.references[0]
    moments = {
        split: dataclasses.replace(one, mu=2 * one.mu, sigma=4 * one.sigma)
        for split, one in first.moments.items()
    }
    extractor = MeanColour(2.0, "inception", "fid")
    second = dataclasses.replace(first, extractor=extractor, moments=moments)
    alone = evaluator.quality(SAMPLES, tiny.labels(LABELS))
    quality = Evaluator((first, second), second).quality(SAMPLES, tiny.labels(LABELS))
    assert quality.distance == "fid"
    assert quality.fd_train == pytest.approx(4 * alone.fd_train, rel=1e-6)
    assert quality.agreement == alone.agreement
    assert Evaluator((first, second), first).quality(SAMPLES, tiny.labels(LABELS)) == alone


def test_agreement_is_absent_where_the_extractor_has_no_scores_of_classes(evaluator, monkeypatch):
    """Even if images were drawn for a class: it would be 1 for all."""
    monkeypatch.setattr(MeanColour, "widths", {POOL: 3})
    quality = evaluator.quality(SAMPLES, tiny.labels(np.zeros(60, np.int32)))
    assert quality.agreement is None


def test_labels_must_be_one_for_each_image(evaluator):
    accumulator = evaluator.accumulator()
    for labels in (LABELS[:29], LABELS[:30, None], 1):
        with pytest.raises(MetricsError, match="30 images came with classes of shape"):
            accumulator.add(SAMPLES[:30], tiny.labels(labels))


def test_no_images(evaluator):
    with pytest.raises(MetricsError, match="found 0; add samples"):
        evaluator.accumulator().quality()
