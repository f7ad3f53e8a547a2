"""Drawing every sampler's images, chunk by chunk, so that a kill loses one chunk; their scores.

Sample i has label i mod k (or a drawn one) and the key (seed, i), whatever the sampler: samplers
are compared on the same noise. Images are drawn by all devices, chunks by all processes; features
are extracted as images come, and of the images only those are kept that are to be shown. The grid
beside them has one class a row and one key a column.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray

from sid2core import atomic, config, rng
from sid2core.data.load.dataset import Dataset
from sid2core.inference.generator import Generator, Method, balanced_labels, drawn_labels
from sid2core.metrics import scores
from sid2core.metrics.evaluator import Accumulator, Evaluator, ReferenceStatistics
from sid2core.metrics.names import count_name
from sid2core.metrics.networks import inception
from sid2core.metrics.scores import Score
from sid2core.metrics.statistics import Moments
from sid2core.models import cost
from sid2core.models.network import Parameters

REAL_DATA = "train_images"
"""The row of real training images, judged as samples are."""
_IMAGES, _SECONDS = "images", "seconds"
_METRICS = ("fid_eval", "fid_train", "inception_score", "fd_dinov2_eval")
"""Of further extractors' scores, those among a sampler's metrics."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """A sampler to be judged: its name in files and metrics, its title on the page."""

    name: str
    title: str
    method: Method
    params: Parameters


@dataclass(frozen=True)
class Row:
    """One line of the table of samplers; None where a column does not apply."""

    sampler: str
    title: str
    steps: int | None
    guidance_weight: float | None
    logsnr_min: float | None
    logsnr_max: float | None
    samples: int
    fd_eval: float
    fd_train: float
    agreement: float
    nfe: int | None
    gflops_forward: float | None
    gflops_image: float | None


@dataclass(frozen=True)
class Task:
    """What every sampler is asked for, and how: the same for all of them."""

    labels: NDArray[np.int32]
    """[n]."""
    seed: int
    settings: config.Eval
    batch_size: int
    evaluator: Evaluator
    sharding: NamedSharding | None

    @classmethod
    def of(
        cls,
        params: config.Params,
        train: Dataset,
        evaluator: Evaluator,
        sharding: NamedSharding | None,
    ) -> Task:
        """The task of ``params.eval``."""
        settings = params.eval
        labels = balanced_labels(settings.samples, train.num_classes)
        if settings.labels == "drawn":
            frequencies = np.bincount(train.labels, minlength=train.num_classes)
            labels = drawn_labels(params.seed, settings.samples, frequencies)
        return cls(labels, params.seed, settings, params.sampling.batch_size, evaluator, sharding)

    @property
    def starts(self) -> range:
        """The first image of each chunk."""
        return range(0, len(self.labels), self.settings.chunk_size)


def draw(one: Contestant, task: Task, folder: Path, advance: Callable[[int], Any]) -> int:
    """Draw this process's chunks of a sampler into ``folder``, but for those that are there.

    Process 0 draws the grid too.

    Returns:
        How many chunks an earlier run had left for this process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = Generator(one.method, one.params, task.batch_size, task.sharding)
    stream, found = rng.key(task.seed, "evaluate"), 0
    for start in task.starts[jax.process_index() :: jax.process_count()]:
        path = _chunk(folder, start)
        labels = task.labels[start : start + task.settings.chunk_size]
        if path.exists():
            found += 1
        else:
            generator.seconds.clear()
            images = generator.images(stream, np.arange(start, start + len(labels)), labels)
            kept = images[: max(0, task.settings.keep - start)]
            arrays = task.evaluator.features(images) | {_IMAGES: kept, _SECONDS: generator.seconds}
            atomic.write_npz(path, arrays)
        advance(len(labels))
    if jax.process_index() == 0 and not _grid(folder).exists():
        atomic.write_npz(_grid(folder), {_IMAGES: _drawn_grid(generator, one, task)})
    return found


def _drawn_grid(generator: Generator, one: Contestant, task: Task) -> NDArray[np.uint8]:
    shape, columns = one.method.denoiser.network.config, task.settings.grid_columns
    rows, keys = np.indices((shape.num_classes, columns)).reshape(2, -1)
    images = generator.images(rng.key(task.seed, "evaluate/grid"), keys, rows.astype(np.int32))
    return images.reshape(shape.num_classes, columns, *shape.image_shape)


def _chunk(folder: Path, start: int) -> Path:
    return folder / f"chunk-{start:08d}.npz"


def _grid(folder: Path) -> Path:
    return folder / "grid.npz"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What all processes drew of one sampler."""

    accumulator: Accumulator
    images: NDArray[np.uint8]
    """The kept ones, [n, h, w, c]."""
    grid: NDArray[np.uint8]
    """[classes, columns, h, w, c]."""
    seconds: float | None
    """An image, the median over batches; None where no batch was measured."""

    @classmethod
    def read(cls, folder: Path, task: Task) -> Drawn:
        """What :func:`draw` left in ``folder``, complete."""
        accumulator, images, seconds = task.evaluator.accumulator(), [], list[float]()
        for start in task.starts:
            with np.load(_chunk(folder, start), allow_pickle=False) as file:
                arrays = dict(file)
            images.append(arrays.pop(_IMAGES))
            seconds.extend(arrays.pop(_SECONDS))
            accumulator.add_features(arrays, task.labels[start : start + task.settings.chunk_size])
        with np.load(_grid(folder), allow_pickle=False) as file:
            grid = file[_IMAGES]
        typical = statistics.median(seconds) if seconds else None
        return cls(accumulator, np.concatenate(images), grid, typical)


def real_data_baseline(train: Dataset, task: Task) -> Accumulator:
    """Real training images, as many as samples (or all there are), judged in the same way."""
    order = np.asarray(rng.permutation(task.seed, "evaluate/yardstick", len(train)))
    some, accumulator = np.sort(order[: len(task.labels)]), task.evaluator.accumulator()
    for start in range(0, len(some), task.settings.chunk_size):
        part = some[start : start + task.settings.chunk_size]
        accumulator.add(train.take(part), train.labels[part])
    return accumulator


def measured(accumulator: Accumulator, evaluator: Evaluator, settings: config.Eval) -> list[Score]:
    """All scores by all extractors, those of the data set's own first.

    Raises:
        MetricsError: the published statistics cannot be read, or cannot be compared.
    """
    return [
        score
        for reference in evaluator.references
        for score in scores.of(
            accumulator, reference, _published(reference, settings), infinity=settings.infinity
        )
    ]


def _published(reference: ReferenceStatistics, settings: config.Eval) -> Moments | None:
    """``eval.reference_stats``, for the extractor that they are of."""
    if settings.reference_stats is None or reference.extractor.name != inception.NAME:
        return None
    told = {"extractor": inception.NAME, "mode": settings.inception_mode}
    size = reference.moments["train"].mu.size
    return Moments.published(Path(settings.reference_stats), told, size=size)


def row(one: Contestant | None, found: Sequence[Score], agreement: float) -> Row:
    """A sampler's line of the table; of real images without one."""
    by_name = {score.metric: score.value for score in reversed(found)}
    columns: dict[str, Any] = {
        "sampler": REAL_DATA,
        "title": "real training images",
        "steps": None,
        "guidance_weight": None,
        "logsnr_min": None,
        "logsnr_max": None,
        "samples": found[0].samples,
        "fd_eval": round(by_name["fd_eval"], 6),
        "fd_train": round(by_name["fd_train"], 6),
        "agreement": round(agreement, 6),
        "nfe": None,
        "gflops_forward": None,
        "gflops_image": None,
    }
    return Row(**columns | ({} if one is None else _described(one)))


def _described(one: Contestant) -> dict[str, Any]:
    method = one.method
    low, high = method.guidance.interval
    guided = method.guidance.weight != 0.0
    return {
        "sampler": one.name,
        "title": one.title,
        "steps": method.steps,
        "guidance_weight": method.guidance.weight,
        "logsnr_min": low if guided and math.isfinite(low) else None,
        "logsnr_max": high if guided and math.isfinite(high) else None,
        "nfe": method.nfe,
        "gflops_forward": cost.forward_gflops(method.denoiser.network.config),
        "gflops_image": method.gflops_image,
    }


def metrics(row: Row, found: Sequence[Score]) -> dict[str, float]:
    """What ``dvc metrics diff`` compares: few numbers, named with their sample count.

    What is measured of time is not among them: it differs each time.
    """
    count = count_name(row.samples)
    named = {
        f"fd_eval_{count}": row.fd_eval,
        f"fd_train_{count}": row.fd_train,
        **{f"{one.metric}_{count}": one.value for one in found if one.metric in _METRICS},
        f"agreement_{count}": row.agreement,
        "nfe": row.nfe,
        "gflops_image": row.gflops_image,
    }
    return {name: round(value, 5) for name, value in named.items() if value is not None}


def score_rows(sampler: str, found: Sequence[Score]) -> Iterator[dict[str, Any]]:
    """Lines of the long table of scores."""
    for score in found:
        values = {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in vars(score).items()
        }
        yield {"sampler": sampler, **values}


def cost_row(one: Contestant, drawn: Drawn, task: Task) -> dict[str, Any]:
    """A line of the supplement's Table 5, with the time that drawing took here."""
    method = one.method
    forward = cost.forward_gflops(method.denoiser.network.config)
    device = jax.local_devices()[0]
    return {
        "sampler": one.name,
        "nfe": method.nfe,
        "gflops_forward": forward,
        "tflops_image": method.gflops_image / 1000,
        "seconds_image": None if drawn.seconds is None else float(f"{drawn.seconds:.4g}"),
        "batch_size": task.batch_size,
        "devices": 1 if task.sharding is None else task.sharding.mesh.size,
        "device": device.device_kind,
    }
