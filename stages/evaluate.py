"""evaluate: every sampler against both splits, with what it costs."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sid2core import artifact, config, evaluation, progress, recipe, stage, work
from sid2core.artifact import Artifact
from sid2core.data.dataset import Dataset
from sid2core.diffusion.guidance import ConstantGuidance, Guidance, NoGuidance
from sid2core.evaluation import Contestant
from sid2core.guidance_search import chosen
from sid2core.metrics.judge import Judge
from sid2core.sampling import STUDENT_SAMPLER
from sid2core.trained import Trained

REPORTS = Path("reports/evaluate")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Draw, judge, and write ``artifacts/evaluate``, the table of samplers and the metrics."""
    prepare = artifact.load("prepare")
    reference = artifact.load("reference", prepare=prepare)
    train = artifact.load("train", prepare=prepare)
    search = artifact.load("guidance_search", reference=reference, train=train)
    distill = artifact.load("distill", train=train, guidance_search=search)
    inputs = {
        "prepare": prepare,
        "reference": reference,
        "train": train,
        "guidance_search": search,
        "distill": distill,
    }
    made_by = {
        "seed": params.seed,
        "sampling": params.sampling.model_dump(),
        "guidance": params.guidance.model_dump(),
        "eval": params.eval.model_dump(),
    }
    contestants, judge = _contestants(params, train, search, distill), Judge.load(reference)
    total = len(contestants) * params.eval.samples
    rows: list[evaluation.Row] = []
    grids: dict[str, Any] = {}
    with (
        work.claim("evaluate", made_by, **inputs) as folder,
        progress.bar(total, "evaluate", "image") as bar,
        artifact.create("evaluate", made_by, inputs) as draft,
    ):
        for one in contestants:
            samples, found = evaluation.draw(one, params, folder / one.name, bar.update)
            if found:
                _log.info("%s resumes: %d chunks of an earlier run", one.name, found)
            meter, size = judge.meter(), params.eval.chunk_size
            for start in range(0, params.eval.samples, size):
                part = slice(start, start + size)
                meter.add(samples.images[part], samples.labels[part])
            rows.append(evaluation.row(one, meter.result()))
            grids[one.name] = samples.grid
            kept = slice(0, params.eval.keep)
            images, labels = samples.images[kept], samples.labels[kept]
            np.savez_compressed(draft.path(f"{one.name}.npz"), images=images, labels=labels)
        np.savez_compressed(draft.path("grids.npz"), **grids)
        draft.facts |= {"samplers": list(grids)}
        real = Dataset.open(prepare, "train")
        rows.append(evaluation.yardstick(real, judge, params.eval, params.seed))
        table = pd.DataFrame([asdict(one) for one in rows])
        artifact.write_text(REPORTS / "samplers.csv", table.to_csv(index=False))
        artifact.write_json(REPORTS / "metrics.json", evaluation.metrics(rows))


def _contestants(
    params: config.Params, train: Artifact, search: Artifact, distill: Artifact
) -> list[Contestant]:
    """The base model without guidance, with constant and with the found guidance; students."""
    base, sampling = Trained.load(train.folder, recipe.execution(params.runtime)), params.sampling
    found = chosen(json.loads(search.path("best.json").read_text(encoding="utf-8")))
    guided: dict[str, tuple[str, Guidance]] = {
        "base": ("base, no guidance", NoGuidance()),
        "constant": ("base, constant guidance", ConstantGuidance(params.guidance.weight)),
        "searched": ("base, guidance found by the search", found.guidance),
    }
    contestants = [
        Contestant(
            name,
            title,
            base.method(recipe.sampler(sampling), guidance, sampling.steps, clip=sampling.clip),
            base.params,
        )
        for name, (title, guidance) in guided.items()
    ]
    for name in distill.facts["students"]:
        student = Trained.load(distill.folder / name, recipe.execution(params.runtime))
        steps = student.config["student_steps"]
        method = student.method(STUDENT_SAMPLER, NoGuidance(), steps, clip=sampling.clip)
        contestants.append(Contestant(name, f"student of {steps} steps", method, student.params))
    return contestants


if __name__ == "__main__":
    stage.run("evaluate", main)
