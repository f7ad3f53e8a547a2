"""Ways to read an epoch of shuffled batches; each makes work that ends with the last batch."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Work


def describe() -> dict[str, str]:
    """What the work runs on: the host, unless a train step says otherwise."""
    import jax

    names = ("jax", "jaxlib", "numpy", "pyarrow", "torch", "grain", "pillow")
    return {name: version(name) for name in names} | {"platform": jax.devices()[0].platform}


def ours(folder: str, batch: int, fresh: bool) -> Work:
    """Batches on the device, two made ahead; ``fresh`` opens the data set anew for each epoch."""
    import jax

    from sid2core.data.load.dataset import Dataset
    from sid2core.data.load.loader import Loader
    from sid2core.pipeline import artifact

    prepare = artifact.load("prepare", root=Path(folder) / "artifacts")
    epochs = itertools.count()

    def opened() -> Loader:
        return Loader(Dataset.open(prepare, "train", cache_mib=4096), batch, 0, prefetch=2)

    kept = opened()

    def work() -> None:
        loader = opened() if fresh else kept
        steps = len(loader.dataset) // batch
        for made in loader.stream(next(epochs) * steps, steps):
            jax.block_until_ready(made)

    return work


def memmap(folder: str, batch: int) -> Work:
    """Random rows of one array: a batch is a single copy."""
    images = np.load(Path(folder) / "images.npy", mmap_mode="r")
    draws = np.random.default_rng(0)

    def work() -> None:
        rows = draws.permutation(len(images))
        for start in range(0, len(rows) - batch + 1, batch):
            images[rows[start : start + batch]]

    return work


def torch(folder: str, batch: int, kind: str) -> Work:
    """PyTorch's DataLoader over image files, in two processes that live on."""
    from torch.utils.data import DataLoader

    from benchmarks.files import Files

    loader = DataLoader(
        Files(Path(folder) / kind),
        batch,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        drop_last=True,
    )

    def work() -> None:
        for _ in loader:
            pass

    return work


def grain(folder: str, batch: int) -> Work:
    """Grain over the same shards: shuffled in a window, row by row."""
    from grain import experimental

    shape = np.load(Path(folder) / "images.npy", mmap_mode="r").shape[1:]
    shards = sorted(str(path) for path in Path(folder).glob("artifacts/prepare/*.parquet"))

    def decoded(row: dict[str, Any]) -> tuple[np.ndarray, int]:
        return np.frombuffer(row["image"], np.uint8).reshape(shape), row["label"]

    rows = experimental.ParquetIterDataset(shards).map(decoded)
    window = experimental.WindowShuffleIterDataset(rows, window_size=4096, seed=0)
    batches = window.batch(batch, drop_remainder=True)

    def work() -> None:
        for _ in batches:
            pass

    return work


def steps(folder: str, steps: int, prefetch: int | None) -> Work:
    """Train steps of ``params.yaml`` as the stage takes them; without ``prefetch``, on one batch.

    What the log calls waiting is kept as a list of shares in a file of its own, one a unit of work.
    """
    from sid2core import config
    from sid2core.config import build
    from sid2core.data.load.dataset import Dataset
    from sid2core.data.load.loader import Loader
    from sid2core.models.network import Network
    from sid2core.pipeline import artifact
    from sid2core.training import base, loop

    params = config.read()
    runtime = params.runtime.model_copy(update={"checkpoint_every": 10**6, "log_every": steps // 4})
    dataset = Dataset.open(artifact.load("prepare", root=Path(folder) / "artifacts"), "train")
    loader = Loader(dataset, params.train.batch_size, params.seed, prefetch=prefetch or 0)
    network = Network(build.network(params.model, dataset.shape, dataset.condition))
    objective = base.objective_of(params.diffusion, network, params.train.condition_dropout)
    run = base.base_run(objective, params.train, loader, params.seed)
    run = replace(run, steps=steps)
    if prefetch is None:
        batch = next(loader.stream(0, 1))
        run = replace(run, batches=lambda index: (batch for _ in range(index, steps)))
    name = f"prefetch {prefetch}"
    place, shares = Path(folder) / name, list[float]()

    def work() -> None:
        _, log = loop.fit(run, place, runtime)
        shutil.rmtree(place)
        shares.append(float(np.mean([row["data_wait_share"] for row in log.speed])))
        # The first unit of work compiled.
        (Path(folder) / f"{name}.json").write_text(json.dumps(shares[1:] or shares))

    return work


def training(folder: str, steps: int, bare: bool) -> Work:
    """Train steps of ``params.yaml`` as the stage takes them, or their compiled step alone."""
    import jax
    import jax.numpy as jnp

    from sid2core import config
    from sid2core.config import build
    from sid2core.data.load.dataset import Dataset
    from sid2core.data.load.loader import Loader
    from sid2core.models.network import Network
    from sid2core.pipeline import artifact
    from sid2core.training import base, loop

    params = config.read()
    dataset = Dataset.open(artifact.load("prepare", root=Path(folder) / "artifacts"), "train")
    settings = params.train.batch_size, params.seed, params.loader, params.runtime.prefetch
    loader = Loader(dataset, *settings)
    network = Network(build.network(params.model, dataset.shape, dataset.condition))
    objective = base.objective_of(params.diffusion, network, params.train.condition_dropout)
    run = base.base_run(objective, params.train, loader, params.seed)
    first = jax.jit(run.init)()
    run = replace(run, steps=steps, init=lambda: jax.tree.map(jnp.copy, first))
    run = replace(run, batches=lambda index: loader.stream(index, steps - index))
    place = Path(folder) / "work"

    def whole() -> None:
        loop.fit(run, place, params.runtime)
        shutil.rmtree(place)

    batch = next(loader.stream(0, 1))

    def alone() -> None:
        state = run.init()
        for index in range(steps):
            state, scalars = run.step(state, batch, index)
        jax.block_until_ready((state, scalars))

    return alone if bare else whole
