"""The data set's own extractor of clips: it must see motion, with classes or without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core import config
from sid2core.data.load import pixels
from sid2core.metrics.networks import classifier, classifier_training, self_supervised
from sid2core.metrics.networks.own import Architecture, OwnExtractor
from sid2core.metrics.networks.protocol import LOGITS, POOL
from sid2core.metrics.networks.self_supervised import CLIP_LEVELS, SHUFFLED, STOPPED
from sid2core.metrics.statistics import FeatureStatistics, distance
from tests.data import stored

FRAMES, SIDE = 6, 8
SETTINGS = config.Reference(
    channels=[8, 16],
    feature_size=16,
    steps=120,
    batch_size=24,
    learning_rate=0.01,
    weight_decay=0.01,
    max_shift=1,
    label_smoothing=0.1,
)


def moving(count, seed):
    """A bright square that moves steadily over the edge of a torus; the class is its size."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count).astype(np.int32)
    start, speed = random.integers(0, SIDE, (count, 2)), random.integers(1, 3, (count, 2))
    clips = np.zeros((count, FRAMES, SIDE, SIDE, 1), np.uint8)
    for clip, label, place, step in zip(clips, labels, start, speed, strict=True):
        for time, frame in enumerate(clip):
            frame[: 2 + 2 * label, : 2 + 2 * label] = 200
            frame[...] = np.roll(frame, place + time * step, (0, 1))
    noise = random.integers(0, 20, clips.shape)
    return (clips + noise).astype(np.uint8), labels


@pytest.mark.parametrize("labelled", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_stopped_and_shuffled_clips_are_further_than_held_out_ones(labelled):
    clips, labels = moving(240, seed=0)
    dataset = stored.dataset(clips, labels, ("small", "large"))
    extractor, _ = classifier_training.train(dataset, SETTINGS, 0, labelled=labelled)
    held_out, _ = moving(120, seed=1)
    random = np.random.default_rng(2)
    shuffled = np.stack([clip[random.permutation(FRAMES)] for clip in held_out])
    stopped = np.repeat(held_out[:, :1], FRAMES, axis=1)
    real, *others = (
        FeatureStatistics.of(extractor.features(one)[POOL]).moments({})
        for one in (clips, held_out, shuffled, stopped)
    )
    near, *far = (distance(one, real) for one in others)
    assert min(far) > 2 * near
    if labelled:
        logits = extractor.features(held_out)[LOGITS]
        assert logits.shape == (120, 2)
        assert (logits.argmax(axis=-1) == moving(120, seed=1)[1]).mean() > 0.8


def fresh(labelled):
    architecture = Architecture((5, 6, 7, 2), 3, (4, 6), 9, labelled)
    return OwnExtractor(architecture, jax.device_get(architecture.init(jax.random.key(0))))


def test_saved_and_loaded_is_the_same_and_clips_do_not_depend_on_each_other(tmp_path):
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 7, 2), dtype=np.uint8)
    extractor = fresh(labelled=True)
    extractor.save(tmp_path.joinpath)
    loaded = OwnExtractor.load(tmp_path.joinpath)
    assert loaded.provenance == extractor.provenance
    assert loaded.batching.size == 256 // 5
    whole = loaded.features(clips)
    assert {kind: one.shape for kind, one in whole.items()} == {POOL: (3, 9), LOGITS: (3, 3)}
    np.testing.assert_allclose(extractor.features(clips[2:])[POOL], whole[POOL][2:], atol=1e-6)


def test_motion_is_the_difference_of_frames():
    x = jnp.asarray(pixels.to_unit(jnp.arange(24, dtype=jnp.uint8).reshape(1, 6, 2, 2, 1)))
    motion = np.asarray(classifier.with_motion(x))
    np.testing.assert_array_equal(motion[:, 0], 0)
    np.testing.assert_allclose(motion[:, 1:], np.diff(np.asarray(x), axis=1), atol=1e-6)


def test_levels_stop_the_motion_or_change_the_order():
    def order(stopped, shuffled, frames=8):
        levels = jnp.asarray([stopped], jnp.float32), jnp.asarray([shuffled], jnp.float32)
        return np.asarray(self_supervised.reordered(frames, *levels, jax.random.key(0)))[0]

    np.testing.assert_array_equal(order(0, 0), np.arange(8))
    np.testing.assert_array_equal(order(1, 0), np.zeros(8))
    np.testing.assert_array_equal(order(3 / 7, 0), np.minimum(np.arange(8), 4))
    assert sorted(order(0, 1)) == list(range(8)) != list(order(0, 1))


def test_a_degraded_clip_consists_of_its_degraded_frames():
    random = np.random.default_rng(0)
    clips = jnp.asarray(random.uniform(-1, 1, (3, 4, 5, 5, 1)).astype(np.float32))
    key = jax.random.key(0)
    faded = jnp.zeros((3, CLIP_LEVELS)).at[1, self_supervised.FADED].set(1.0)
    found = np.asarray(jax.jit(self_supervised.degraded_clips)(clips, faded, key))
    mean = clips[1].mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found[1], np.broadcast_to(mean, found[1].shape), atol=1e-5)
    np.testing.assert_allclose(found[[0, 2]], clips[jnp.asarray([0, 2])], atol=1e-6)
    levels = np.asarray(self_supervised.random_levels(key, 4000, CLIP_LEVELS))
    shares = (levels > 0).mean(axis=0)
    np.testing.assert_allclose(shares[[STOPPED, SHUFFLED]], 1 / (CLIP_LEVELS + 1), atol=0.03)
