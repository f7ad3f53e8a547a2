import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from sid2core.data.load import pixels
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import own as module
from sid2core.metrics.networks import registry
from sid2core.metrics.networks.batching import Batching
from sid2core.metrics.networks.own import Architecture, OwnExtractor
from sid2core.metrics.networks.protocol import LOGITS, POOL
from sid2core.pipeline import artifact
from tests.refusals import RAW_IMAGES

ARCHITECTURE = Architecture((5, 6, 3), num_classes=4, channels=(8, 12), feature_size=7)


@functools.cache
def fresh(architecture=ARCHITECTURE, seed=0):
    return OwnExtractor(architecture, jax.device_get(architecture.init(jax.random.key(seed))))


def applied(extractor, x):
    graph, _ = extractor.architecture.split()
    return jax.jit(lambda x: nnx.merge(graph, extractor.weights)(x))(x)


def images_of(count, shape=(5, 6, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def save(root, extractor, change=lambda draft: None):
    with artifact.create("reference", {}, root=root) as draft:
        registry.save(draft, [extractor], "classifier")
        change(draft)
    return artifact.load("reference", root=root)


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((4, 4, 1), (3, 5, 7, 9)), ((4, 9, 2), (8,)), ((17, 5, 3), (16, 6)), ((8, 8, 5), (1, 2))],
)
def test_any_size_and_channel_count(shape, channels):
    extractor = fresh(Architecture(shape, 3, channels, 6))
    features = extractor.features(images_of(3, shape))
    assert {kind: one.shape for kind, one in features.items()} == {POOL: (3, 6), LOGITS: (3, 3)}
    assert np.isfinite(features[POOL]).all()
    assert len(np.unique(features[POOL], axis=0)) == 3


def test_features_are_those_of_the_module():
    """The padded, jitted path against the plain one, image by image."""
    extractor, images = fresh(), images_of(3)
    features = extractor.features(images)
    for index in range(3):
        expected = applied(extractor, pixels.to_unit(images[index : index + 1]))
        np.testing.assert_allclose(features[POOL][index], expected[0][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(features[LOGITS][index], expected[1][0], rtol=1e-5, atol=1e-6)


def test_features_do_not_depend_on_the_batch():
    extractor, images = dataclasses.replace(fresh(), batching=Batching(8)), images_of(21)
    whole = extractor.features(images)
    for size in (1, 7, 8, 20):
        parts = [extractor.features(images[start : start + size]) for start in range(0, 21, size)]
        for kind, one in whole.items():
            found = np.concatenate([part[kind] for part in parts])
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)
    assert extractor.features(images[:0])[POOL].shape == (0, 7)


def test_one_compilation_serves_all_batch_sizes():
    extractor = dataclasses.replace(fresh())
    for count in (1, 2, 300):
        extractor.features(images_of(count))
    assert extractor._network._cache_size() == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (images_of(2).astype(np.float32), re.escape(RAW_IMAGES)),
        (images_of(2, (6, 5, 3)), r"shape \[6, 5, 3\]; .* expects \[5, 6, 3\]: run `dvc repro ref"),
        (images_of(2)[0], re.escape(RAW_IMAGES)),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(MetricsError, match=message):
        fresh().features(images)


def test_saved_and_loaded_is_the_same_to_the_bit(tmp_path):
    extractor = fresh()
    loaded = registry.own(save(tmp_path, extractor))
    assert loaded.architecture == extractor.architecture
    assert jax.tree.structure(loaded.weights) == jax.tree.structure(extractor.weights)
    features = loaded.features(images_of(9))
    for kind, one in extractor.features(images_of(9)).items():
        np.testing.assert_array_equal(features[kind], one)
    assert loaded.digest == extractor.digest
    assert loaded.provenance == extractor.provenance
    assert json.loads(json.dumps(loaded.provenance)) == loaded.provenance


def test_weights_are_named_by_their_place(tmp_path):
    path = save(tmp_path, fresh()).path(f"classifier/{module.WEIGHTS}")
    tensors = safetensors.numpy.load_file(path)
    assert tensors["stages.1.down.kernel"].shape == (3, 3, 8, 12)
    assert tensors["hidden.kernel"].shape == (12, 7)
    assert tensors["head.bias"].shape == (4,)


def test_digest_depends_on_weights_and_architecture():
    wider = Architecture((5, 6, 3), 4, (8, 12), 8)
    taller = Architecture((6, 5, 3), 4, (8, 12), 7)
    digests = {fresh().digest, fresh(seed=1).digest, fresh(wider).digest, fresh(taller).digest}
    assert len(digests) == 4


def overwrite(name, content):
    return lambda draft: draft.path(f"classifier/{name}").write_bytes(content)


def config_with(**change):
    value = {"name": "classifier", "shape": [5, 6, 3], "num_classes": 4}
    value |= {"channels": [8, 12], "feature_size": 7} | change
    return overwrite(module.CONFIG, json.dumps(value).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (overwrite(module.WEIGHTS, b"no tensors"), "no readable extractor"),
        (overwrite(module.CONFIG, b"{}"), "no readable extractor"),
        (config_with(name="inception"), "holds extractor 'inception'; expected 'classifier'"),
        (config_with(feature_size=9), "weights head.kernel, hidden.bias, hidden.kernel do not fit"),
        (config_with(channels=[8]), "do not fit"),
    ],
)
def test_damaged_or_foreign_files_are_refused(tmp_path, change, message):
    made = save(tmp_path, fresh(), change)
    with pytest.raises(MetricsError, match=message):
        registry.own(made)


def test_images_of_a_batch_are_independent():
    """One image changed moves its own features alone: no statistics over the batch."""
    extractor, x = fresh(), pixels.to_unit(images_of(3))
    before, _ = applied(extractor, x)
    after, _ = applied(extractor, x.at[1].set(-x[1]))
    moved = (np.asarray(before) != np.asarray(after)).any(axis=-1)
    assert moved.tolist() == [False, True, False]
