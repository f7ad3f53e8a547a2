import dataclasses

import jax
import numpy as np
import pytest

from sid2core.metrics import statistics
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.extractor import Architecture, Extractor
from sid2core.metrics.quality import QualityMeter, measure
from sid2core.metrics.statistics import FeatureStatistics

RNG = np.random.default_rng(0)
TRAIN, EVAL, SAMPLES = (
    RNG.integers(0, high, (60, 4, 4, 1), dtype=np.uint8) for high in (256, 200, 99)
)
LABELS = RNG.integers(0, 3, 60).astype(np.int32)


@pytest.fixture(scope="module")
def extractor():
    architecture = Architecture((4, 4, 1), 3, (8,), 5)
    return Extractor(architecture, jax.device_get(architecture.init(jax.random.key(0))))


def moments(extractor, images, split, **change):
    features, _ = extractor.features(images)
    return FeatureStatistics.of(features).moments(extractor.provenance | {"split": split} | change)


def references(extractor, **change):
    return moments(extractor, TRAIN, "train"), moments(extractor, EVAL, "eval", **change)


def test_scores_are_their_definitions(extractor):
    train, held_out = references(extractor)
    quality = measure(extractor, train, held_out, SAMPLES, LABELS)
    own = moments(extractor, SAMPLES, "samples")
    assert quality.samples == 60
    assert quality.fd_train == pytest.approx(statistics.distance(own, train), rel=1e-9)
    assert quality.fd_eval == pytest.approx(statistics.distance(own, held_out), rel=1e-9)
    assert quality.fd_train != pytest.approx(quality.fd_eval, rel=0.01)
    _, logits = extractor.features(SAMPLES)
    assert quality.agreement == (logits.argmax(axis=-1) == LABELS).mean()


def test_the_references_own_images_are_at_no_distance(extractor):
    train, held_out = references(extractor)
    _, logits = extractor.features(TRAIN)
    quality = measure(extractor, train, held_out, TRAIN, logits.argmax(axis=-1))
    assert quality.fd_train == pytest.approx(0.0, abs=1e-12 * np.trace(train.sigma))
    assert quality.agreement == 1.0


@pytest.mark.parametrize("size", [1, 7, 25, 59])
def test_chunks_do_not_matter(extractor, size):
    train, held_out = references(extractor)
    whole = measure(extractor, train, held_out, SAMPLES, LABELS)
    meter = QualityMeter(extractor, train, held_out)
    for start in range(0, 60, size):
        meter.add(SAMPLES[start : start + size], LABELS[start : start + size])
    assert dataclasses.astuple(meter.result()) == pytest.approx(
        dataclasses.astuple(whole), rel=1e-6
    )


def test_results_may_be_asked_for_on_the_way(extractor):
    meter = QualityMeter(extractor, *references(extractor))
    meter.add(SAMPLES[:30], LABELS[:30])
    assert meter.result().samples == 30
    meter.add(SAMPLES[30:], LABELS[30:])
    whole = measure(extractor, *references(extractor), SAMPLES, LABELS)
    assert meter.result().fd_eval == pytest.approx(whole.fd_eval, rel=1e-6)


def test_statistics_of_another_extractor_are_refused(extractor):
    with pytest.raises(MetricsError, match="extractor_digest"):
        QualityMeter(extractor, *references(extractor, extractor_digest="other"))


def test_labels_must_be_one_for_each_image(extractor):
    meter = QualityMeter(extractor, *references(extractor))
    for labels in (LABELS[:29], LABELS[:30, None], 1):
        with pytest.raises(MetricsError, match="30 images came with labels of shape"):
            meter.add(SAMPLES[:30], labels)


def test_nothing_to_judge(extractor):
    with pytest.raises(MetricsError, match="found 0; add samples"):
        QualityMeter(extractor, *references(extractor)).result()
