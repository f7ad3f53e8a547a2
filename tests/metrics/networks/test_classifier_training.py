from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import extractor as extractor_benchmark
from sid2core import config
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import classifier_training
from sid2core.metrics.networks.classifier_training import shifted
from sid2core.metrics.networks.protocol import LOGITS, POOL
from tests.data import stored

SETTINGS = config.Reference(
    channels=[8],
    feature_size=8,
    steps=60,
    batch_size=16,
    learning_rate=0.01,
    weight_decay=0.01,
    max_shift=1,
    label_smoothing=0.1,
)


def dataset_of(count=96, shape=(4, 6, 2)):
    """Three classes that differ in brightness, with noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count).astype(np.int32)
    noise = rng.integers(0, 60, (count, *shape))
    images = (noise + 90 * labels.reshape(-1, *[1] * len(shape))).astype(np.uint8)
    return stored.dataset(images, labels, ("dark", "grey", "bright"))


def test_training_learns_and_repeats_to_the_byte():
    dataset = dataset_of()
    extractor, curve = classifier_training.train(dataset, SETTINGS, seed=0)
    logits = extractor.features(dataset.images)[LOGITS]
    assert (logits.argmax(axis=-1) == dataset.labels).mean() > 0.95
    assert curve[-1].loss < curve[0].loss
    assert [point.step for point in curve] == list(range(1, 61))

    again, curve_again = classifier_training.train(dataset, SETTINGS, seed=0, prefetch=2)
    assert again.digest == extractor.digest
    assert curve_again == curve
    other, _ = classifier_training.train(dataset, SETTINGS, seed=1)
    assert other.digest != extractor.digest


@pytest.mark.parametrize(
    ("count", "classes", "labelled"), [(96, 1, False), (30, 3, True), (29, 3, False)]
)
def test_labels_are_used_where_each_class_has_enough_images(count, classes, labelled):
    images, labels = np.zeros((count, 4, 6, 2), np.uint8), np.arange(count) % classes
    dataset = stored.dataset(images, labels, map(str, range(classes)))
    assert classifier_training.has_labels(dataset) == labelled


def test_training_without_labels_orders_images():
    """The benchmark's requirements, of a tiny extractor of digits."""
    update = {"feature_size": 16, "steps": 100, "batch_size": 64}
    settings = SETTINGS.model_copy(update=update)
    images, _ = extractor_benchmark.digits(0)
    train, held_out = images[:600], images[600:1000]
    dataset = stored.dataset(train, np.zeros(len(train), np.int32), ("digits",))
    extractor, curve = classifier_training.train(dataset, settings, seed=0)
    assert set(extractor.widths) == {POOL}
    assert curve[-1].loss < curve[0].loss
    distances = extractor_benchmark.distances(extractor, train, held_out, seed=0)
    assert extractor_benchmark.failures(distances) == []


def test_a_diverging_run_stops_with_its_cure():
    wild = SETTINGS.model_copy(update={"learning_rate": 1e38})
    with pytest.raises(MetricsError, match=r"at step \d+; lower reference.learning_rate"):
        classifier_training.train(dataset_of(), wild, seed=0)


def test_records_of_other_ranks_are_refused():
    with pytest.raises(MetricsError, match=r"expected images \[h, w, c\] or clips"):
        classifier_training.train(dataset_of(8, (4, 6)), SETTINGS, seed=0)


@pytest.mark.parametrize("max_shift", [1, 2])
def test_shifts_are_whole_pixels_with_edges_repeated(max_shift):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(200, 5, 4, 2)), jnp.float32)
    found = np.asarray(shifted(x, jax.random.key(0), max_shift))
    seen = set()
    for before, after in zip(np.asarray(x), found, strict=True):
        moves = {
            (dy, dx)
            for dy in range(-max_shift, max_shift + 1)
            for dx in range(-max_shift, max_shift + 1)
            if np.array_equal(after, moved(before, dy, dx))
        }
        assert len(moves) == 1
        seen |= moves
    assert len(seen) == (2 * max_shift + 1) ** 2


def moved(image, dy, dx):
    rows = np.clip(np.arange(image.shape[0]) + dy, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) + dx, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def test_no_shift_is_no_change():
    x = jnp.ones((2, 4, 4, 1))
    assert shifted(x, jax.random.key(0), 0) is x


@pytest.mark.parametrize(("steps", "points"), [(1, 1), (99, 99), (100, 100), (101, 51), (600, 100)])
def test_curve_averages_every_step_once(steps, points):
    history = np.stack([np.arange(steps), np.ones(steps)], axis=1)
    curve = classifier_training._curve(history)
    assert len(curve) == points
    assert curve[-1].step == steps
    widths = np.diff([0, *(point.step for point in curve)])
    assert widths @ [point.loss for point in curve] == pytest.approx(history[:, 0].sum())


def test_settings_are_those_of_the_parameters_file():
    """A key added to the section must be used, not overlooked."""
    source = Path(classifier_training.__file__).read_text(encoding="utf-8")
    unused = [name for name in config.Reference.model_fields if f"settings.{name}" not in source]
    assert unused == []
