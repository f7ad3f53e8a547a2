"""Clips to look at: some of the eval split, and samples with the conditions of each.

With given frames they are the first of the predictions that are measured. Otherwise a sample has
the random key (stream, index), and its index says which sample of which clip it is: all samplers
start from the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import drawing, tables
from sid2core.evaluation.clips import baselines, clip_table
from sid2core.evaluation.clips.clip_table import BEST, MEAN, ErrorRow
from sid2core.evaluation.clips.predictions import Predictions
from sid2core.evaluation.drawing import EvaluationRun, SampleSet
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.samplers_table import COPY
from sid2core.metrics.clips.prediction import FINEST, PEAK
from sid2core.pipeline.artifact import Draft

CLIPS, SAMPLES = 16, 3
"""Clips at most, and samples of each at most."""
_NAME = "evaluate/clips"


@dataclass(frozen=True, eq=False)
class ClipExamples:
    """Which clips are shown, and what is drawn for them; of images, nothing.

    Attributes:
        data: the eval split.
        rows: its records.
        given: how many first frames the model is given.
        frames: of a whole clip, the given ones among them.
        sets: the samples of each sampler, clip by clip.
        drawn: those of them that nothing else draws.
    """

    data: Dataset
    rows: NDArray[np.int64]
    given: int
    frames: int
    sets: Sequence[SampleSet]
    drawn: Sequence[SampleSet]


def of_model(
    data: Dataset, specs: Sequence[SamplerSpec], seed: int, made: Predictions
) -> ClipExamples:
    """The examples of the base model, with the last of its guidances, and of its students.

    Args:
        data: the eval split.
        specs: the samplers, students last.
        seed: of the run.
        made: the predictions; their clips and samples are taken where frames are given.
    """
    if len(data.shape) != 4:
        return ClipExamples(data, np.empty(0, np.int64), 0, 0, [], [])
    base = [one for one in specs if not one.student][-1]
    chosen = [base, *(one for one in specs if one.student)]
    network = base.method.denoiser.network.config
    kinds, frames = network.condition, made.given + network.image_shape[0]
    if made.real is not None:
        sets = [one for one in made.sets if any(one.spec is spec for spec in chosen)]
        rows = np.asarray(made.real.indices, np.int64)
        return ClipExamples(data, rows, made.given, frames, sets, [])
    rows = np.asarray(rng.permutation(seed, _NAME, len(data)), np.int64)[:CLIPS]
    condition = kinds.of_rows(data, rows, conditioning.words(seed, _NAME, rows))
    repeated = conditioning.taken(condition, np.arange(len(rows)).repeat(SAMPLES))
    keys = np.arange(len(rows) * SAMPLES)
    stream = rng.key(seed, _NAME)
    sets = [
        SampleSet(f"{one.name}.clips", one, stream, keys, repeated, keep=len(keys), measured=False)
        for one in chosen
    ]
    return ClipExamples(data, rows, 0, frames, sets, sets)


def save(draft: Draft, made: ClipExamples, run: EvaluationRun) -> None:
    """Write what :mod:`sid2core.evaluation.clip_table` describes, all of it drawn."""
    if not made.sets:
        return
    real = made.data.take(made.rows)[:, : made.frames]
    arrays: dict[str, Any] = {
        clip_table.REAL: real[:CLIPS],
        clip_table.RECORDS: made.rows[:CLIPS],
        clip_table.LABELS: made.data.labels[made.rows[:CLIPS]],
        clip_table.GIVEN: np.int64(made.given),
    }
    rows = list[ErrorRow]()
    for one in made.sets:
        samples = drawing.read(one, run).images.reshape(len(real), -1, *real.shape[1:])
        arrays[one.spec.name] = samples[:CLIPS, :SAMPLES]
        if made.given:
            rows += errors(one.spec.name, real, samples, made.given)
    np.savez_compressed(draft.path(clip_table.CLIPS), **arrays)
    draft.metadata["clips"] = [one.spec.name for one in made.sets]
    if made.given:
        copies = baselines.copied(real, made.given)[:, None]
        rows += [row for row in errors(COPY, real, copies, made.given) if row.choice == MEAN]
        tables.write_table(draft.path(clip_table.ERROR), map(asdict, rows))


def errors(
    name: str, real: NDArray[np.uint8], samples: NDArray[np.uint8], given: int
) -> Iterator[ErrorRow]:
    """``PSNR = 10 log10(255² / MSE)`` of each predicted frame, the mean over clips.

    Of all samples, and of the one of each clip with the largest mean over its predicted frames.

    Args:
        name: of the sampler.
        real: clips [n, f, h, w, c].
        samples: of each, [n, s, f, h, w, c].
        given: how many first frames are not predicted.
    """
    mse = np.stack(
        [
            ((own[:, given:].astype(np.float64) - one[given:]) ** 2).mean((2, 3, 4))
            for one, own in zip(real, samples, strict=True)
        ]
    )
    psnr = 10 * np.log10(PEAK**2 / np.maximum(mse, FINEST))
    of_best = psnr[np.arange(len(real)), psnr.mean(2).argmax(1)]
    for choice, values in ((MEAN, psnr.mean((0, 1))), (BEST, of_best.mean(0))):
        for index, value in enumerate(values.tolist()):
            yield ErrorRow(name, choice, given + index + 1, round(value, 4), *mse.shape[:2])
