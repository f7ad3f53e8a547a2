"""Drawing and judging the samples of every sampler, chunk by chunk, so that a kill loses one chunk.

Sample i has the label i mod k and the key (seed, i), whatever the sampler: samplers are compared
on the same noise. The grid beside them has one class a row and one key a column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sid2core import config, rng
from sid2core.data.dataset import Dataset
from sid2core.metrics.judge import Judge
from sid2core.metrics.names import count_name
from sid2core.metrics.quality import Quality
from sid2core.models import cost
from sid2core.models.network import Parameters
from sid2core.sampling import Generator, Method, balanced_labels

YARDSTICK = "train_images"
"""The row of real training images, judged as samples are."""


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

    def metrics(self) -> dict[str, float]:
        """What ``dvc metrics diff`` compares: numbers named with their sample count."""
        count = count_name(self.samples)
        named = {
            f"fd_eval_{count}": self.fd_eval,
            f"fd_train_{count}": self.fd_train,
            f"agreement_{count}": self.agreement,
            "nfe": self.nfe,
            "gflops_image": self.gflops_image,
        }
        return {name: round(value, 5) for name, value in named.items() if value is not None}


@dataclass(frozen=True, eq=False)
class Samples:
    """What one sampler drew."""

    images: NDArray[np.uint8]
    """[n, h, w, c]."""
    labels: NDArray[np.int32]
    """[n]."""
    grid: NDArray[np.uint8]
    """[classes, columns, h, w, c]."""


def draw(
    contestant: Contestant,
    params: config.Params,
    folder: Path,
    advance: Callable[[int], Any],
) -> tuple[Samples, int]:
    """All samples of one sampler; chunks that an earlier run left in ``folder`` are read back.

    Returns:
        The samples, and how many chunks were found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, seed = params.eval, params.seed
    shape = contestant.method.denoiser.network.config
    generator = Generator(contestant.method, contestant.params, params.sampling.batch_size)
    labels = balanced_labels(settings.samples, shape.num_classes)
    stream, parts, found = rng.key(seed, "evaluate"), [], 0
    for start in range(0, settings.samples, settings.chunk_size):
        chunk = labels[start : start + settings.chunk_size]
        indices = np.arange(start, start + len(chunk))
        path = folder / f"chunk-{start:08d}.npy"
        found += path.exists()
        parts.append(_kept(path, partial(generator.images, stream, indices, chunk)))
        advance(len(chunk))
    rows, columns = np.indices((shape.num_classes, settings.grid_columns)).reshape(2, -1)
    grid = _kept(
        folder / "grid.npy",
        partial(generator.images, rng.key(seed, "evaluate/grid"), columns, rows.astype(np.int32)),
    )
    grid = grid.reshape(shape.num_classes, settings.grid_columns, *shape.image_shape)
    return Samples(np.concatenate(parts), labels, grid), found


def _kept(path: Path, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The array in ``path``, made and written (atomically) if it is not there yet."""
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, make())
        temporary.replace(path)
    return np.load(path)


def row(contestant: Contestant, quality: Quality) -> Row:
    """A sampler's line of the table."""
    method = contestant.method
    low, high = method.guidance.interval
    guided = method.guidance.weight != 0.0
    return Row(
        sampler=contestant.name,
        title=contestant.title,
        steps=method.steps,
        guidance_weight=method.guidance.weight,
        logsnr_min=low if guided and np.isfinite(low) else None,
        logsnr_max=high if guided and np.isfinite(high) else None,
        **_scores(quality),
        nfe=method.nfe,
        gflops_forward=cost.forward_gflops(method.denoiser.network.config),
        gflops_image=method.gflops_image,
    )


def yardstick(train: Dataset, judge: Judge, settings: config.Eval, seed: int) -> Row:
    """Real training images, as many as samples (or all there are), judged in the same way."""
    order = np.asarray(rng.permutation(seed, "evaluate/yardstick", len(train)))
    some, meter = np.sort(order[: settings.samples]), judge.meter()
    for start in range(0, len(some), settings.chunk_size):
        part = some[start : start + settings.chunk_size]
        meter.add(train.take(part), train.labels[part])
    return Row(
        sampler=YARDSTICK,
        title="real training images",
        steps=None,
        guidance_weight=None,
        logsnr_min=None,
        logsnr_max=None,
        **_scores(meter.result()),
        nfe=None,
        gflops_forward=None,
        gflops_image=None,
    )


def _scores(quality: Quality) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int) else round(value, 6)
        for name, value in asdict(quality).items()
    }


def metrics(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The metrics of every row by its sampler's name."""
    return {one.sampler: one.metrics() for one in rows}
