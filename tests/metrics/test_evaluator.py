import dataclasses

import numpy as np
import pytest

from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.evaluator import Judge
from sid2core.metrics.networks.registry import POOL
from tests.metrics.judges import mean_colour_judge

RNG = np.random.default_rng(1)
SAMPLES = RNG.integers(0, 99, (60, 4, 4, 1), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 60).astype(np.int32)


@pytest.fixture(scope="module")
def judge():
    return mean_colour_judge()


def metered(judge, size=60):
    meter = judge.meter()
    for start in range(0, 60, size):
        meter.add(SAMPLES[start : start + size], LABELS[start : start + size])
    return meter


def test_scores_are_their_definitions(judge):
    quality, panel = judge.quality(SAMPLES, LABELS), judge.panels[0]
    own = metered(judge).moments(panel)
    assert quality.samples == 60
    assert quality.distance == "fd"
    assert quality.fd_train == statistics.distance(own, panel.moments["train"])
    assert quality.fd_eval == statistics.distance(own, panel.moments["eval"])
    assert quality.fd_train != pytest.approx(quality.fd_eval, rel=0.01)
    features = judge.features(SAMPLES)
    seen = features["classifier.logits"].argmax(axis=-1)
    assert quality.agreement == (seen == LABELS).mean()
    np.testing.assert_allclose(own.mu, features["classifier.pool"].mean(0), rtol=1e-6)
    assert "split" not in own.provenance


@pytest.mark.parametrize("size", [1, 7, 25, 59])
def test_chunks_do_not_matter(judge, size):
    assert metered(judge, size).quality() == metered(judge).quality()


def test_neither_do_blocks_of_sums(judge, monkeypatch):
    expected = metered(judge).quality()
    monkeypatch.setattr("sid2core.metrics.evaluator._BLOCK", 16)
    found = dataclasses.astuple(metered(judge, 7).quality())
    assert found[1:4] == pytest.approx(dataclasses.astuple(expected)[1:4], rel=1e-9)


def test_results_may_be_asked_for_on_the_way(judge):
    meter = judge.meter()
    meter.add(SAMPLES[:30], LABELS[:30])
    assert meter.quality().samples == 30
    meter.add(SAMPLES[30:], LABELS[30:])
    assert meter.quality() == metered(judge).quality()


def test_statistics_of_another_extractor_are_refused(judge):
    with pytest.raises(MetricsError, match="extractor_digest"):
        mean_colour_judge(extractor_digest="other")


def test_the_last_gauge_leads(judge):
    """Here one that sees everything twice as far apart."""
    first = judge.panels[0]

    def features(images):
        return {POOL: 2 * first.gauge.features(images)[POOL]}

    gauge = dataclasses.replace(first.gauge, name="inception", distance="fid", features=features)
    moments = {
        split: dataclasses.replace(one, mu=2 * one.mu, sigma=4 * one.sigma)
        for split, one in first.moments.items()
    }
    both = Judge((first, dataclasses.replace(first, gauge=gauge, moments=moments)))
    found, alone = both.quality(SAMPLES, LABELS), judge.quality(SAMPLES, LABELS)
    assert found.distance == "fid"
    assert found.fd_train == pytest.approx(4 * alone.fd_train, rel=1e-6)
    assert found.agreement == alone.agreement


def test_labels_must_be_one_for_each_image(judge):
    meter = judge.meter()
    for labels in (LABELS[:29], LABELS[:30, None], 1):
        with pytest.raises(MetricsError, match="30 images came with labels of shape"):
            meter.add(SAMPLES[:30], labels)


def test_nothing_to_judge(judge):
    with pytest.raises(MetricsError, match="found 0; add samples"):
        judge.meter().quality()
