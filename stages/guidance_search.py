"""guidance_search: which guidance, and on which interval of log-SNR."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("guidance_search")

import logging
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from sid2core import atomic, config, rng
from sid2core.config import build
from sid2core.inference import guidance_search
from sid2core.inference.generator import Generator, balanced_labels
from sid2core.inference.guidance_search import Cell, Score
from sid2core.inference.model import Trained
from sid2core.metrics.evaluator import Evaluator
from sid2core.metrics.names import count_name
from sid2core.pipeline import artifact, progress, stage
from sid2core.training import cluster, mesh

REPORTS = Path("reports/guidance_search")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Score the grid, then write ``artifacts/guidance_search/best.json`` and the heat map."""
    cluster.join(params.runtime.launcher)
    prepare = artifact.load("prepare")
    reference = artifact.load("reference", prepare=prepare)
    train = artifact.load("train", prepare=prepare)
    settings, sampling = params.guidance_search, params.sampling
    made_by = {
        "seed": params.seed,
        "sampling": sampling.model_dump(),
        "guidance_search": settings.model_dump(),
    }
    inputs = {"prepare": prepare, "reference": reference, "train": train}
    sharding = mesh.local(params.runtime.mesh).batch
    model, evaluator = (
        Trained.load(train.folder, build.execution(params.runtime)),
        Evaluator.load(reference, sharding),
    )
    labels = balanced_labels(settings.samples, model.denoiser.network.config.num_classes)
    cells = guidance_search.grid(settings)
    total = len(cells) * settings.repeats * settings.samples // jax.process_count()
    stream = rng.key(params.seed, "guidance_search")

    with (
        cluster.claim("guidance_search", made_by, **inputs) as folder,
        progress.bar(total, "guidance_search", "image", shown=cluster.first()) as bar,
    ):

        def evaluate(cell: Cell) -> Score:
            sampler = build.sampler(sampling)
            method = model.method(sampler, cell.guidance, sampling.steps, clip=sampling.clip)
            generator = Generator(method, model.params, sampling.batch_size, sharding)
            qualities = []
            for repeat in range(settings.repeats):
                first, accumulator = repeat * settings.samples, evaluator.accumulator()
                indices = np.arange(first, first + settings.samples)
                for images, wanted in generator.chunks(stream, indices, labels):
                    accumulator.add(images, wanted)
                    bar.update(len(images))
                qualities.append(accumulator.quality())
            return guidance_search.score(cell, method.nfe, qualities)

        share = jax.process_index(), jax.process_count()
        _, found = guidance_search.search(cells, evaluate, folder, *share)
        if found:
            _log.info("resumed: %d of %d cells are of an earlier run", found, len(cells))
        cluster.wait("guidance_search: all is scored")
        if not cluster.first():
            return
        scores, _ = guidance_search.search(cells, evaluate, folder)
        verdict = guidance_search.verdict(scores)
        with artifact.create("guidance_search", made_by, inputs) as draft:
            atomic.write_json(draft.path("best.json"), verdict)
        table = pd.DataFrame([asdict(one) for one in scores])
        atomic.write_text(REPORTS / "grid.csv", table.to_csv(index=False))
        name = f"{verdict['distance']}_train_{count_name(settings.samples)}"
        metrics = {
            "weight": verdict["best"]["weight"],
            "logsnr_min": verdict["best"]["logsnr_min"],
            "logsnr_max": verdict["best"]["logsnr_max"],
            name: round(verdict["best"]["fd_train_mean"], 5),
            f"{name}_runner_up": round(verdict["runner_up"]["fd_train_mean"], 5),
            f"{name}_noise": round(verdict["noise"], 5),
            "guided_weight": verdict["guided"]["weight"],
            f"{name}_guided": round(verdict["guided"]["fd_train_mean"], 5),
        }
        atomic.write_json(REPORTS / "metrics.json", metrics)


if __name__ == "__main__":
    stage.run("guidance_search", main)
