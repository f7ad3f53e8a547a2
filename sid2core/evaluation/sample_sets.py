"""Which images each stage draws: random streams, indices and classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sid2core import rng
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation.drawing import RealSet, SampleSet
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.samplers_table import BASELINE


def search_repeats(
    spec: SamplerSpec, labels: NDArray[np.int32], repeats: int, seed: int
) -> list[SampleSet]:
    """The images of one cell of the guidance search: ``repeats`` sets of the same classes.

    Every cell has the same random keys, so cells differ by their guidance alone.
    """
    stream, count = rng.key(seed, "guidance_search"), len(labels)
    return [
        SampleSet(
            f"{spec.name}/repeat-{repeat}",
            spec,
            stream,
            np.arange(repeat * count, (repeat + 1) * count),
            labels,
        )
        for repeat in range(repeats)
    ]


def distilled(spec: SamplerSpec, labels: NDArray[np.int32], seed: int) -> SampleSet:
    """The images by which ``distill`` scores the teacher and each student."""
    stream = rng.key(seed, "distill/score")
    return SampleSet(spec.name, spec, stream, np.arange(len(labels)), labels)


def evaluated(spec: SamplerSpec, labels: NDArray[np.int32], keep: int, seed: int) -> SampleSet:
    """The images by which ``evaluate`` measures a sampler; the first ``keep`` are kept."""
    stream = rng.key(seed, "evaluate")
    return SampleSet(spec.name, spec, stream, np.arange(len(labels)), labels, keep)


def class_grid(spec: SamplerSpec, columns: int, seed: int) -> SampleSet:
    """Images to look at: a row of ``columns`` images for each class, one key a column."""
    num_classes = spec.method.denoiser.network.config.num_classes
    rows, keys = np.indices((num_classes, columns)).reshape(2, -1)
    stream, name = rng.key(seed, "evaluate/grid"), f"{spec.name}.grid"
    labels = rows.astype(np.int32)
    return SampleSet(name, spec, stream, keys, labels, keep=len(keys), measured=False)


def real_baseline(train: Dataset, count: int, seed: int) -> RealSet:
    """The real-data baseline: ``count`` different training images, or all that there are."""
    order = np.asarray(rng.permutation(seed, "evaluate/yardstick", len(train)))
    return RealSet(BASELINE, train, np.sort(order[:count]))
