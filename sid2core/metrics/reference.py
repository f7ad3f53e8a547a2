"""What an extractor says of the real images, written into the reference artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core import rng
from sid2core.data.load.dataset import Dataset
from sid2core.metrics.evaluator import place
from sid2core.metrics.networks.registry import LOGITS, POOL, SPATIAL, WEIGHTS, FeatureExtractor
from sid2core.metrics.provenance import LOSSLESS
from sid2core.metrics.statistics import FeatureStatistics, Moments
from sid2core.pipeline import progress
from sid2core.pipeline.artifact import Artifact, Draft

KEPT = 10_000
"""Of the train split, features of so many images are kept, for what compares sets: as ADM does."""
_CHUNK = 256  # images described at once: bounds memory


@dataclass(frozen=True, eq=False)
class Described:
    """Both splits, by name; ``accuracy`` is that of the classes that the extractor sees."""

    moments: Mapping[str, Moments]
    spatial: Mapping[str, Moments]
    accuracy: Mapping[str, float]


def describe(
    extractor: FeatureExtractor,
    datasets: Mapping[str, Dataset],
    prepare: Artifact,
    draft: Draft,
    seed: int,
) -> Described:
    """Measure all images of both splits, and write what an evaluator reads.

    Args:
        extractor: the network.
        datasets: the splits, by name.
        prepare: the artifact that they are of.
        draft: where to write.
        seed: of the choice of images whose features are kept.

    Raises:
        MetricsError: the extractor does not take such images, or a split has fewer than two.
    """
    if extractor.save is not None:
        extractor.save(draft.path(place(extractor, WEIGHTS)))
    moments, spatial, accuracy = dict[str, Moments](), dict[str, Moments](), dict[str, float]()
    for split, dataset in datasets.items():
        kept = np.zeros(len(dataset), bool)
        if split == "train":
            order = np.asarray(rng.permutation(seed, "reference/kept", len(dataset)))
            kept[order[:KEPT]] = True
        gathered = _gather(extractor, dataset, kept)
        told = {**extractor.provenance, **_cut(prepare), "data": prepare.digest, "split": split}
        moments[split] = gathered.pool.moments(told)
        moments[split].save(draft.path(place(extractor, f"{split}.npz")))
        if gathered.spatial is not None:
            spatial[split] = gathered.spatial.moments(told | {"features": SPATIAL})
            spatial[split].save(draft.path(place(extractor, f"{split}_spatial.npz")))
        accuracy[split] = gathered.hits / len(dataset)
        if split == "train":
            np.save(draft.path(place(extractor, "train_features.npy")), gathered.kept)
    return Described(moments, spatial, accuracy)


@dataclass
class _Gathered:
    pool: FeatureStatistics
    spatial: FeatureStatistics | None
    kept: NDArray[np.float32]
    hits: int


def _gather(extractor: FeatureExtractor, dataset: Dataset, kept: NDArray[np.bool_]) -> _Gathered:
    pool, spatial, hits = None, None, 0
    some = list[NDArray[np.float32]]()
    with progress.bar(len(dataset), f"{extractor.name} {dataset.split}", "image") as bar:
        for index, (images, labels) in enumerate(dataset.chunks(_CHUNK)):
            found = extractor.features(images)
            pool = _more(pool, found[POOL])
            if SPATIAL in found:
                spatial = _more(spatial, found[SPATIAL])
            if LOGITS in found:
                hits += int((found[LOGITS].argmax(axis=-1) == labels).sum())
            some.append(found[POOL][kept[index * _CHUNK :][: len(images)]])
            bar.update(len(images))
    assert pool is not None, "a split has images"
    return _Gathered(pool, spatial, np.concatenate(some), hits)


def _more(so_far: FeatureStatistics | None, features: NDArray[np.float32]) -> FeatureStatistics:
    found = FeatureStatistics.of(features)
    return found if so_far is None else so_far.merge(found)


def _cut(prepare: Artifact) -> dict[str, object]:
    """How the images came to be what they are: part of what makes statistics comparable."""
    return {
        "shape": list(prepare.facts["shape"]),
        "crop": prepare.manifest["params"]["data"]["crop"],
        "image_format": LOSSLESS,
    }
