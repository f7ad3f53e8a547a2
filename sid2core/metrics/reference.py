"""Statistics of the real images' features, written into the reference artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sid2core import atomic, rng
from sid2core.data.load import pace
from sid2core.data.load.dataset import Dataset
from sid2core.metrics.evaluator import place
from sid2core.metrics.networks import i3d_k600
from sid2core.metrics.networks.protocol import LOGITS, POOL, SPATIAL, FeatureExtractor
from sid2core.metrics.provenance import LOSSLESS
from sid2core.metrics.statistics import FeatureStatistics, Moments
from sid2core.pipeline import progress
from sid2core.pipeline.artifact import Artifact, Draft

KEPT = 10_000
"""Features of so many images of the train split are kept for the scores of sets, as in ADM."""
_CHUNK = 256  # images, or frames of clips, that are in memory at once


@dataclass(frozen=True, eq=False)
class Measured:
    """The statistics of one extractor, by split.

    Attributes:
        moments: mean and covariance of the features.
        accuracy: the share of images that the class scores assign to their class; None if the
            extractor has no scores of the data set's classes.
    """

    moments: Mapping[str, Moments]
    accuracy: Mapping[str, float | None]


def measure(
    extractor: FeatureExtractor,
    datasets: Mapping[str, Dataset],
    prepare: Artifact,
    draft: Draft,
    seed: int,
) -> Measured:
    """Extract the features of all images, and write their statistics.

    Args:
        extractor: the network.
        datasets: the splits, by name.
        prepare: their artifact.
        draft: the reference artifact.
        seed: of the choice of images whose features are kept.

    Raises:
        MetricsError: the extractor does not accept the images, or a split has fewer than two.
    """
    moments, accuracy = dict[str, Moments](), dict[str, float | None]()
    for split, clips in datasets.items():
        dataset = clips
        if extractor.name == i3d_k600.NAME:  # windows of its own of the whole stored clips
            dataset = replace(clips, clip_frames=None)
        kept = np.zeros(len(dataset), bool)
        if split == "train":
            order = np.asarray(rng.permutation(seed, "reference/kept", len(dataset)))
            kept[order[:KEPT]] = True
        sums = _sums(extractor, dataset, kept)
        provenance = {
            **extractor.provenance,
            **_images(prepare, dataset),
            **_real_clips(extractor, dataset),
            "data": prepare.digest,
            "split": split,
        }
        moments[split] = sums.pool.moments(provenance)
        moments[split].save(draft.path(place(extractor, f"{split}.npz")))
        if sums.spatial is not None:
            spatial = sums.spatial.moments(provenance | {"features": SPATIAL})
            spatial.save(draft.path(place(extractor, f"{split}_spatial.npz")))
        accuracy[split] = None if sums.hits is None else sums.hits / len(dataset)
        if split == "train":
            atomic.write_npy(draft.path(place(extractor, "train_features.npy")), sums.kept)
    return Measured(moments, accuracy)


@dataclass
class _Sums:
    pool: FeatureStatistics
    spatial: FeatureStatistics | None
    kept: NDArray[np.float32]
    hits: int | None


def _sums(extractor: FeatureExtractor, dataset: Dataset, kept: NDArray[np.bool_]) -> _Sums:
    """The features of a split, chunk by chunk."""
    pool = spatial = None
    hits = 0 if extractor.widths.get(LOGITS) == dataset.num_classes else None
    features_kept = list[NDArray[np.float32]]()
    size = _CHUNK if len(dataset.shape) == 3 else max(1, _CHUNK // dataset.shape[0])
    with progress.bar(len(dataset), f"{extractor.name} {dataset.split}", "image") as bar:
        for index, (images, labels) in enumerate(dataset.chunks(size)):
            clips = images
            if extractor.name == i3d_k600.NAME:
                clips = i3d_k600.real_clips(images)
            features = extractor.features(clips)
            pool = _merged(pool, features[POOL])
            if SPATIAL in features:
                spatial = _merged(spatial, features[SPATIAL])
            if hits is not None:
                hits += int((features[LOGITS].argmax(axis=-1) == labels).sum())
            first = features[POOL][:: len(clips) // len(images)]  # one clip of each video
            features_kept.append(first[kept[index * size :][: len(images)]])
            bar.update(len(images))
    assert pool is not None, "a split has images"
    return _Sums(pool, spatial, np.concatenate(features_kept), hits)


def _merged(sums: FeatureStatistics | None, features: NDArray[np.float32]) -> FeatureStatistics:
    added = FeatureStatistics.of(features)
    return added if sums is None else sums.merge(added)


def _real_clips(extractor: FeatureExtractor, dataset: Dataset) -> dict[str, object]:
    """The part of the provenance that says which clips of a stored one are measured."""
    if extractor.name != i3d_k600.NAME:
        return {}
    frames, height, width, channels = dataset.shape
    side = min(height, width)
    found: dict[str, object] = {"shape": [i3d_k600.FRAMES, side, side, channels]}
    if frames > i3d_k600.FRAMES or height != width:
        found["real_clips"] = i3d_k600.CLIPS_OF_A_VIDEO
    return found


def _images(prepare: Artifact, dataset: Dataset) -> dict[str, object]:
    """The part of the provenance that describes the images."""
    return {
        "shape": list(dataset.shape),
        "crop": prepare.manifest["params"]["data"]["crop"],
        "image_format": LOSSLESS,
        **pace.of_prepared(prepare.metadata),
    }
