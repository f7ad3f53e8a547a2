"""What a gauge says of the real images, written into the reference artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sid2core import rng
from sid2core.data.load.dataset import Dataset
from sid2core.metrics.evaluator import place
from sid2core.metrics.networks.registry import LOGITS, POOL, SPATIAL, WEIGHTS, Gauge
from sid2core.metrics.provenance import LOSSLESS
from sid2core.metrics.statistics import FeatureStatistics, Moments
from sid2core.pipeline import progress
from sid2core.pipeline.artifact import Artifact, Draft

KEPT = 10_000
"""Of the train split, features of so many images are kept, for what compares sets: as ADM does."""
_CHUNK = 256  # images described at once: bounds memory


@dataclass(frozen=True, eq=False)
class Described:
    """Both splits, by name; ``accuracy`` is that of the classes that the gauge sees."""

    moments: Mapping[str, Moments]
    spatial: Mapping[str, Moments]
    accuracy: Mapping[str, float]


def describe(
    gauge: Gauge, datasets: Mapping[str, Dataset], prepare: Artifact, draft: Draft, seed: int
) -> Described:
    """Measure all images of both splits, and write what a judge reads.

    Args:
        gauge: the network.
        datasets: the splits, by name.
        prepare: the artifact that they are of.
        draft: where to write.
        seed: of the choice of images whose features are kept.

    Raises:
        MetricsError: the gauge does not take such images, or a split has fewer than two.
    """
    if gauge.save is not None:
        gauge.save(draft.path(place(gauge, WEIGHTS)))
    moments, spatial, accuracy = dict[str, Moments](), dict[str, Moments](), dict[str, float]()
    for split, dataset in datasets.items():
        kept = np.zeros(len(dataset), bool)
        if split == "train":
            order = np.asarray(rng.permutation(seed, "reference/kept", len(dataset)))
            kept[order[:KEPT]] = True
        gathered = _gather(gauge, dataset, kept)
        told = {**gauge.provenance, **_cut(prepare), "data": prepare.digest, "split": split}
        moments[split] = gathered.pool.moments(told)
        moments[split].save(draft.path(place(gauge, f"{split}.npz")))
        if gathered.spatial is not None:
            spatial[split] = gathered.spatial.moments(told | {"features": SPATIAL})
            spatial[split].save(draft.path(place(gauge, f"{split}_spatial.npz")))
        accuracy[split] = gathered.hits / len(dataset)
        if split == "train":
            np.save(draft.path(place(gauge, "train_features.npy")), gathered.kept)
    return Described(moments, spatial, accuracy)


@dataclass
class _Gathered:
    pool: FeatureStatistics
    spatial: FeatureStatistics | None
    kept: NDArray[np.float32]
    hits: int


def _gather(gauge: Gauge, dataset: Dataset, kept: NDArray[np.bool_]) -> _Gathered:
    pool, spatial, hits = None, None, 0
    some = list[NDArray[np.float32]]()
    with progress.bar(len(dataset), f"{gauge.name} {dataset.split}", "image") as bar:
        for index, (images, labels) in enumerate(dataset.chunks(_CHUNK)):
            found = gauge.features(images)
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
