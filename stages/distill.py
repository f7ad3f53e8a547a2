"""distill: the guided base model into students of few steps."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("distill")

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from sid2core import atomic, config, rng
from sid2core.config import build
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Loader
from sid2core.diffusion.guidance import NoGuidance
from sid2core.distillation import moment_matching
from sid2core.inference.generator import STUDENT_SAMPLER, Generator, Method, balanced_labels
from sid2core.inference.guidance_search import chosen
from sid2core.inference.model import Trained
from sid2core.metrics.evaluator import Evaluator
from sid2core.metrics.names import count_name
from sid2core.models import network
from sid2core.pipeline import artifact, stage
from sid2core.training import cluster, loop, mesh

REPORTS = Path("reports/distill")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Score the teacher, distil each student, write ``artifacts/distill`` and the curves."""
    cluster.join(params.runtime.launcher)
    prepare = artifact.load("prepare")
    reference = artifact.load("reference", prepare=prepare)
    train = artifact.load("train", prepare=prepare)
    search = artifact.load("guidance_search", prepare=prepare, reference=reference, train=train)
    inputs = {"prepare": prepare, "reference": reference, "train": train, "guidance_search": search}
    settings, sampling = params.distill, params.sampling
    made_by = {
        "seed": params.seed,
        "loader": params.loader.model_dump(),
        "sampling": sampling.model_dump(),
        "distill": settings.model_dump(),
    }
    dataset, teacher = (
        Dataset.open(prepare, "train", params.runtime.cache_mib),
        Trained.load(train.folder, build.execution(params.runtime)),
    )
    layout = mesh.layout(params.runtime.mesh)
    loader = Loader(
        dataset,
        settings.batch_size,
        params.seed,
        params.loader,
        params.runtime.prefetch,
        sharding=layout.batch,
    )
    verdict = json.loads(search.path("best.json").read_text(encoding="utf-8"))
    guidance = chosen(verdict).guidance
    local = mesh.local(params.runtime.mesh).batch
    evaluator, count = Evaluator.load(reference, local), settings.score_samples

    def score(name: str, method: Method, weights: Mapping[str, Any]) -> dict[str, float]:
        labels = balanced_labels(count, dataset.num_classes)
        stream = rng.key(params.seed, "distill/score")
        generator = Generator(method, weights, sampling.batch_size, local)
        accumulator = evaluator.accumulator()
        for images, wanted in generator.chunks(stream, np.arange(count), labels):
            accumulator.add(images, wanted)
        quality = accumulator.quality()
        called = f"{quality.distance}_train"
        _log.info("%s: %s %.4f, agreement %.4f", name, called, quality.fd_train, quality.agreement)
        return {
            f"{called}_{count_name(count)}": round(quality.fd_train, 5),
            f"agreement_{count_name(count)}": round(quality.agreement, 5),
            "nfe": method.nfe,
        }

    # Of several processes each scores, so that none has to wait; the first one writes.
    with cluster.claim("distill", made_by, **inputs) as folder:
        guided = teacher.method(
            build.sampler(sampling), guidance, sampling.steps, clip=sampling.clip
        )
        metrics = {"teacher": score("teacher", guided, teacher.params)}
        students, curves, speeds = {}, [], []
        for steps in settings.steps:
            name = f"student_{steps}"
            matching = moment_matching.MomentMatching(
                teacher.denoiser, teacher.schedule, guidance, steps, settings.max_weight
            )
            run = moment_matching.distillation_run(
                settings, matching, teacher.params, loader, params.seed, layout
            )
            state, log = loop.fit(run, folder / name, params.runtime)
            students[steps] = layout.host(state["ema"])
            few = teacher.method(STUDENT_SAMPLER, NoGuidance(), steps, clip=sampling.clip)
            metrics[name] = score(name, few, students[steps])
            curves.append(pd.DataFrame(log.rows).assign(student=name))
            speeds.append(pd.DataFrame(log.speed).assign(student=name))
        if not cluster.first():
            return
        with artifact.create("distill", made_by, inputs) as draft:
            for steps, student in students.items():
                extra = {"diffusion": teacher.config["diffusion"], "student_steps": steps}
                place = draft.folder / f"student_{steps}"
                network.save(place, teacher.denoiser.network, student, extra)
            draft.facts |= {"students": [f"student_{steps}" for steps in students]}
        names = {"step": "iteration", "loss": "loss_auxiliary"}
        for table, parts in (("curve.csv", curves), ("speed.csv", speeds)):
            joined = pd.concat(parts).rename(columns=names)
            atomic.write_text(REPORTS / table, joined.to_csv(index=False))
        atomic.write_json(REPORTS / "metrics.json", metrics)


if __name__ == "__main__":
    stage.run("distill", main)
