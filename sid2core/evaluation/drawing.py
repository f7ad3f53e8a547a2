"""Image sets, drawn from a model or read from the data, and measured chunk by chunk.

All stages that score images do it by :func:`draw_and_measure`. Image i of a sampler depends on the
seed and on i alone, so samplers are compared on the same noise. The chunks of all sets are shared
among processes, the batches of a chunk among the devices of a process. A chunk holds the features
of its images; of the images themselves only those are kept that are shown later.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray
from typing_extensions import Protocol, runtime_checkable

from sid2core import conditioning
from sid2core.conditioning import Condition, ConditionSpec
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import chunks, store
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.evaluation.store import Store
from sid2core.inference.generator import Generator
from sid2core.metrics.captions.asked import Asked
from sid2core.metrics.evaluator import Accumulator, Evaluator
from sid2core.pipeline import progress
from sid2core.training import cluster
from sid2core.typing import Array

Measured = dict[str, Any]
"""What is measured of an image set, as JSON values."""
Source = Callable[[NDArray[np.integer], Condition], tuple[NDArray[np.uint8], list[float]]]
"""(indices [n], condition) → images [n, h, w, c], seconds an image of each timed batch."""
_BATCHES = 8
"""Of a chunk, unless ``images_per_chunk`` is given."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EvaluationRun:
    """Where and how a stage draws and measures: the same for all of its image sets.

    Attributes:
        stage: its name in the log and on the progress bar.
        folder: the work folder.
        evaluator: extracts the features.
        batch_size: images drawn at once.
        sharding: how the devices of this process share a batch; None for one device.
        images_per_chunk: a multiple of ``batch_size`` wastes nothing; None is eight batches.
        store: where samples are, for later runs too; None is in ``folder``, for this work alone.
    """

    stage: str
    folder: Path
    evaluator: Evaluator
    batch_size: int
    sharding: NamedSharding | None = None
    images_per_chunk: int | None = None
    store: Store | None = None

    @property
    def chunk_size(self) -> int:
        """Images of a chunk: what a kill may lose."""
        return self.images_per_chunk or _BATCHES * self.batch_size

    @property
    def devices(self) -> int:
        """How many devices share a batch."""
        return 1 if self.sharding is None else self.sharding.mesh.size


@runtime_checkable
class ImageSet(Protocol):
    """Images that are made and measured chunk by chunk.

    Attributes:
        name: of its folder.
        indices: which images, [n].
        keep: how many of the first images are kept.
        measured: whether features are extracted; if not, images are only drawn and kept.
        asked: what the images are made for, where the data have captions.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def indices(self) -> NDArray[np.integer]: ...  # noqa: D102
    @property
    def keep(self) -> int: ...  # noqa: D102
    @property
    def measured(self) -> bool: ...  # noqa: D102
    @property
    def asked(self) -> Asked | None: ...  # noqa: D102

    def condition(self, part: slice) -> Condition:
        """What the images of this part of ``indices`` are sampled for; on the host."""

    def source(self, run: EvaluationRun) -> Source:
        """What makes the images; asked for once a process, before its first chunk."""


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples: image i is drawn by ``spec`` from the key (``stream``, ``indices[i]``)."""

    name: str
    spec: SamplerSpec
    stream: Array
    indices: NDArray[np.integer]
    conditions: Condition
    """[n, …]."""
    keep: int = 0
    measured: bool = True
    negative: Condition | None = None
    """[1, …]: what guidance by a prompt pushes all images away from."""
    asked: Asked | None = None

    def condition(self, part: slice) -> Condition:
        """Some of ``conditions``."""
        return conditioning.taken(self.conditions, part)

    def source(self, run: EvaluationRun) -> Source:
        """A generator with its weights on the devices."""
        generator = Generator(
            self.spec.method, self.spec.params, run.batch_size, run.sharding, self.spec.worse
        )

        def images(
            indices: NDArray[np.integer], condition: Condition
        ) -> tuple[NDArray[np.uint8], list[float]]:
            generator.seconds.clear()
            if self.negative is None:
                return generator.images(self.stream, indices, condition), [*generator.seconds]
            negative = conditioning.taken(self.negative, np.zeros(len(indices), int))
            drawn = generator.images(self.stream, indices, condition, negative)
            return drawn, [*generator.seconds]

        return images


@dataclass(frozen=True, eq=False)
class RealSet:
    """Real images: the rows ``indices`` of a data set, as a model with this condition has them.

    Clips are whole, as samples are.
    """

    name: str
    dataset: Dataset
    spec: ConditionSpec
    indices: NDArray[np.integer]
    keep: int = 0
    measured: bool = True
    asked: Asked | None = None

    def condition(self, part: slice) -> Condition:
        """What the records are stored with."""
        return self.spec.of_rows(self.dataset, np.asarray(self.indices[part], np.int64))

    def source(self, run: EvaluationRun) -> Source:
        """The data set."""

        def images(
            indices: NDArray[np.integer], condition: Condition
        ) -> tuple[NDArray[np.uint8], list[float]]:
            rows = np.asarray(indices, np.int64)
            batch = self.spec.read(self.dataset, rows, self.dataset.take(rows))
            return conditioning.whole(*batch), []

        return images


@dataclass(frozen=True)
class _Chunk:
    """Images ``start`` to ``start + size`` of a set."""

    of: ImageSet
    start: int
    size: int

    @property
    def part(self) -> slice:
        return slice(self.start, self.start + self.size)

    def path(self, run: EvaluationRun) -> Path:
        stored = _stored(self.of, run)
        if stored is None:
            return run.folder / self.of.name / f"chunk-{self.start:08d}.npz"
        indices, condition = self.of.indices[self.part], self.of.condition(self.part)
        leaves = jax.tree.leaves(condition)
        content = store.of_arrays(
            {"indices": indices, "kept": np.array(self.kept)}
            | dict(zip(map(str, range(len(leaves))), leaves, strict=True))
        )
        return stored / f"chunk-{self.start:08d}-{content[:16]}.npz"

    @property
    def kept(self) -> int:
        """How many of its images are kept."""
        return min(self.size, max(0, self.of.keep - self.start))


def draw_and_measure(
    sets: Sequence[ImageSet], run: EvaluationRun, measure: Callable[[Accumulator], Measured]
) -> dict[str, Measured]:
    """Draw the chunks that are missing, then measure each set; by all processes together.

    Chunks and measurements of an earlier run are used, damaged ones are made again. The result is
    the same for any number of processes and after any number of kills.

    Args:
        sets: what to draw; names differ.
        run: where and how.
        measure: the numbers of a set whose features were all accumulated, as JSON values.

    Returns:
        What was measured, by the set's name, in every process; without the sets that are not
        ``measured``.

    Raises:
        MetricsError: ``measure`` raises it, such as for too few images.
    """
    if run.store is not None and cluster.first():
        run.store.use(place for one in sets if (place := _stored(one, run)) is not None)
    cluster.wait(f"{run.stage}: the store is ready")
    _draw(sets, run)
    cluster.wait(f"{run.stage}: all is drawn")
    measured = [one for one in sets if one.measured]
    for one in measured[jax.process_index() :: jax.process_count()]:
        path = _measured_path(one, run)
        if not chunks.intact(path, one.indices):
            text = json.dumps(measure(read(one, run).accumulator))
            chunks.write(path, {"indices": one.indices, "json": np.array(text)})
    cluster.wait(f"{run.stage}: all is measured")
    return {
        one.name: json.loads(str(chunks.read(_measured_path(one, run))["json"])) for one in measured
    }


def _draw(sets: Sequence[ImageSet], run: EvaluationRun) -> None:
    """Make this process's share of the chunks: every n-th of all sets' chunks, for n processes."""
    # Samplers that are the same, such as two with one guidance, have the same files in the store.
    everything = {chunk.path(run): chunk for one in sets for chunk in _chunks(one, run)}
    own = [*everything.values()][jax.process_index() :: jax.process_count()]
    missing = [
        chunk for chunk in own if not chunks.intact(chunk.path(run), chunk.of.indices[chunk.part])
    ]
    if len(missing) < len(own):
        count = len(own) - len(missing)
        _log.info("resumed: %d of %d chunks are of an earlier run", count, len(own))
    total, left = (sum(chunk.size for chunk in some) for some in (own, missing))
    with progress.bar(total, run.stage, "image", total - left, shown=cluster.first()) as bar:
        for one, group in itertools.groupby(missing, key=lambda chunk: chunk.of):
            source = one.source(run)
            for chunk in group:
                chunks.write(chunk.path(run), _arrays(chunk, source, run.evaluator))
                bar.update(chunk.size)


def _chunks(one: ImageSet, run: EvaluationRun) -> list[_Chunk]:
    count = len(one.indices)
    return [
        _Chunk(one, start, min(run.chunk_size, count - start))
        for start in range(0, count, run.chunk_size)
    ]


def _arrays(chunk: _Chunk, source: Source, evaluator: Evaluator) -> Mapping[str, Any]:
    """The content of a chunk file: features by name, and what else :func:`read` returns."""
    indices = chunk.of.indices[chunk.part]
    images, seconds = source(indices, chunk.of.condition(chunk.part))
    features = evaluator.features(images) if chunk.of.measured else {}
    kept = images[: chunk.kept]
    return {**features, "indices": indices, "images": kept, "seconds": np.array(seconds)}


def _stored(one: ImageSet, run: EvaluationRun) -> Path | None:
    """The folder in the store for what draws a set.

    None for real images, and for a sampler or guidance that has no description.
    """
    if run.store is None or not isinstance(one, SampleSet):
        return None
    try:
        return run.store.place(_producer(one, run))
    except TypeError as error:
        _log.info("%s is not kept for later runs: %s", one.name, error)
        return None


@functools.lru_cache(maxsize=256)
def _producer(one: SampleSet, run: EvaluationRun) -> dict[str, Any]:
    """All that decides what an image of the set is, but its index and its condition."""
    leaves = jax.tree.leaves(one.negative)
    negative = {"negative": store.described(leaves)} if leaves else {}
    worse = one.spec.worse
    if worse is not None:
        negative["worse"] = [store.described(worse.denoiser), store.of_weights(worse.params)]
    return negative | {
        "method": store.described(one.spec.method),
        "weights": store.of_weights(one.spec.params),
        "stream": store.of_arrays({"": jax.random.key_data(one.stream)}),
        "extractors": store.described(run.evaluator.provenance if one.measured else []),
    }


def _measured_path(one: ImageSet, run: EvaluationRun) -> Path:
    return run.folder / one.name / "measured.npz"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What all processes drew of one set.

    Attributes:
        accumulator: the features of all images; empty for a set that is not measured.
        images: those that were kept, [k, h, w, c].
        seconds: time an image, the median over batches; None where no batch was timed.
    """

    accumulator: Accumulator
    images: NDArray[np.uint8]
    seconds: float | None


def read(one: ImageSet, run: EvaluationRun) -> Drawn:
    """A set whose chunks are all there.

    Raises:
        ChunkError: a chunk is missing or damaged.
    """
    accumulator, images, seconds = run.evaluator.accumulator(one.asked), [], list[float]()
    for chunk in _chunks(one, run):
        arrays = chunks.read(chunk.path(run))
        arrays.pop("indices")
        images.append(arrays.pop("images"))
        seconds.extend(arrays.pop("seconds").tolist())
        if one.measured:
            accumulator.add_features(arrays, one.condition(chunk.part))
    typical = statistics.median(seconds) if seconds else None
    return Drawn(accumulator, np.concatenate(images), typical)
