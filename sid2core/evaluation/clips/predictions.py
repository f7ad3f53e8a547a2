"""Several continuations of some clips' given frames, and how near they come to the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sid2core import conditioning, config, rng
from sid2core.conditioning import ConditionSpec
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import drawing
from sid2core.evaluation.clips import baselines
from sid2core.evaluation.drawing import EvaluationRun, RealSet, SampleSet
from sid2core.evaluation.measuring import Measurement
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.samplers_table import COPY, OTHERS
from sid2core.metrics.clips import prediction
from sid2core.metrics.scores import Score

_NAME = "evaluate/prediction"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Which clips are continued, and by what.

    Attributes:
        real: the whole clips; None if the model has no given frames.
        given: how many first frames a model is given.
        others: of each clip, records of other clips, [n, s].
        sets: the samples of each sampler, clip by clip.
    """

    real: RealSet | None
    given: int
    others: NDArray[np.int64]
    sets: Sequence[SampleSet]


def of_model(
    data: Dataset,
    specs: Sequence[SamplerSpec],
    settings: config.Prediction,
    seed: int,
    kinds: ConditionSpec,
) -> Predictions:
    """The predictions that ``eval.prediction`` asks for; none without given frames.

    The clips are the first of the eval split's shuffled records. Samplers start from equal noise.

    Args:
        data: the eval split.
        specs: the samplers.
        settings: how many clips at most, and samples of each.
        seed: of the run.
        kinds: what the models are conditioned on.
    """
    if kinds.given is None:
        return Predictions(None, 0, np.empty((0, 0), np.int64), [])
    order = np.asarray(rng.permutation(seed, _NAME, len(data)), np.int64)
    rows, samples = order[: settings.windows], settings.samples
    condition = kinds.of_rows(data, rows, conditioning.words(seed, _NAME, rows))
    repeated = conditioning.taken(condition, np.arange(len(rows)).repeat(samples))
    keys, stream = np.arange(len(rows) * samples), rng.key(seed, _NAME)
    shift = 1 + np.arange(samples) % max(1, len(data) - 1)
    others = order[(np.arange(len(rows))[:, None] + shift) % len(data)]
    return Predictions(
        RealSet("prediction", data, kinds, rows),
        kinds.given.shape[0],
        others,
        [
            SampleSet(
                f"{one.name}.prediction",
                one,
                stream,
                keys,
                repeated,
                keep=len(keys),
                measured=False,
            )
            for one in specs
        ],
    )


def added(
    measured: Mapping[str, Measurement], made: Predictions, run: EvaluationRun
) -> dict[str, Measurement]:
    """The measurements by sampler or baseline, with PSNR and SSIM where frames are given.

    All samples must be drawn.
    """
    further = dict(_scores(made, run))
    return {
        name: replace(one, scores=[*one.scores, *further.get(name, ())])
        for name, one in measured.items()
    }


def _scores(made: Predictions, run: EvaluationRun) -> Iterator[tuple[str, list[Score]]]:
    if made.real is None:
        return
    real = _whole(made.real, made.real.indices, run)
    for one in made.sets:
        samples = drawing.read(one, run).images.reshape(len(real), -1, *real.shape[1:])
        yield one.spec.name, prediction.scores(real, samples, made.given)
    copies = np.repeat(baselines.copied(real, made.given)[:, None], made.others.shape[1], 1)
    yield COPY, prediction.scores(real, copies, made.given)
    others = _whole(made.real, made.others.ravel(), run).reshape(copies.shape)
    yield OTHERS, prediction.scores(real, others, made.given)


def _whole(real: RealSet, rows: NDArray[np.integer], run: EvaluationRun) -> NDArray[np.uint8]:
    return real.source(run)(rows, real.spec.of_rows(real.dataset, np.asarray(rows, np.int64)))[0]
