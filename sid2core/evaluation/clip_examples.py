"""Clips to look at: some of the eval split, and samples with the conditions of each.

A sample has the random key (stream, index), and its index says which sample of which clip it is.
So all samplers start from the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, rng
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import clip_table, drawing, tables
from sid2core.evaluation.clip_table import BEST, COPY, MEAN, ErrorRow
from sid2core.evaluation.drawing import EvaluationRun, SampleSet
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.pipeline.artifact import Draft

CLIPS, SAMPLES = 16, 3
"""Clips at most, and samples of each."""
_NAME = "evaluate/clips"
_FINEST = 1 / 12
"""Squared error of rounding to whole numbers: no PSNR is above 58.9 dB."""


@dataclass(frozen=True, eq=False)
class ClipExamples:
    """Which clips are shown, and what is drawn for them; of images, nothing.

    Attributes:
        data: the eval split.
        rows: its records.
        given: how many first frames the model is given.
        frames: of a whole clip, the given ones among them.
        sets: the samples of each sampler.
    """

    data: Dataset
    rows: NDArray[np.int64]
    given: int
    frames: int
    sets: Sequence[SampleSet]


def of_model(
    data: Dataset, specs: Sequence[SamplerSpec], seed: int, clips: int = CLIPS
) -> ClipExamples:
    """The examples of the base model, with the last of its guidances, and of its students.

    Args:
        data: the eval split.
        specs: the samplers, students last.
        seed: of the run.
        clips: how many at most.
    """
    if len(data.shape) != 4:
        return ClipExamples(data, np.empty(0, np.int64), 0, 0, [])
    base = [one for one in specs if not one.student][-1]
    network = base.method.denoiser.network.config
    kinds, given = network.condition, 0
    if kinds.given is not None:
        given = kinds.given.shape[0]
    rows = np.asarray(rng.permutation(seed, _NAME, len(data)), np.int64)[:clips]
    condition = kinds.of_rows(data, rows, conditioning.words(seed, _NAME, rows))
    repeated = conditioning.taken(condition, np.arange(len(rows)).repeat(SAMPLES))
    keys = np.arange(len(rows) * SAMPLES)
    stream = rng.key(seed, _NAME)
    sets = [
        SampleSet(f"{one.name}.clips", one, stream, keys, repeated, keep=len(keys), measured=False)
        for one in (base, *(one for one in specs if one.student))
    ]
    return ClipExamples(data, rows, given, given + network.image_shape[0], sets)


def save(draft: Draft, made: ClipExamples, run: EvaluationRun) -> None:
    """Write what :mod:`sid2core.evaluation.clip_table` describes, all of it drawn."""
    if not made.sets:
        return
    real = made.data.take(made.rows)[:, : made.frames]
    arrays: dict[str, Any] = {
        clip_table.REAL: real,
        clip_table.RECORDS: made.rows,
        clip_table.LABELS: made.data.labels[made.rows],
        clip_table.GIVEN: np.int64(made.given),
    }
    samples: dict[str, Any] = {
        one.spec.name: drawing.read(one, run).images.reshape(len(real), SAMPLES, *real.shape[1:])
        for one in made.sets
    }
    np.savez_compressed(draft.path(clip_table.CLIPS), **arrays, **samples)
    draft.metadata["clips"] = [*samples]
    if made.given:
        rows = [row for name, own in samples.items() for row in errors(name, real, own, made.given)]
        copied = np.broadcast_to(real[:, made.given - 1, None], real.shape)[:, None]
        rows += [row for row in errors(COPY, real, copied, made.given) if row.choice == MEAN]
        tables.write_table(draft.path(clip_table.ERROR), map(asdict, rows))


def errors(
    name: str, real: NDArray[np.uint8], samples: NDArray[np.uint8], given: int
) -> Iterator[ErrorRow]:
    """``PSNR = 10 log10(255² / MSE)`` of each predicted frame, the mean over clips.

    Of all samples, and of the one of each clip with the smallest MSE over all predicted frames.

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
    best = mse.mean(2).argmin(1)
    psnr = 10 * np.log10(255**2 / np.maximum(mse, _FINEST))
    of_best = psnr[np.arange(len(real)), best]
    for choice, values in ((MEAN, psnr.mean((0, 1))), (BEST, of_best.mean(0))):
        for index, value in enumerate(values.tolist()):
            yield ErrorRow(name, choice, given + index + 1, round(value, 4), *mse.shape[:2])
