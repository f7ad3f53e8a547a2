"""evaluate: every sampler against both splits, with what it costs."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("evaluate")

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from sid2core import atomic, config
from sid2core.config import build
from sid2core.data.load.dataset import Dataset
from sid2core.diffusion.guidance import ConstantGuidance, Guidance, NoGuidance
from sid2core.evaluation import evaluate
from sid2core.evaluation.evaluate import Contestant, Drawn, Task
from sid2core.inference.generator import STUDENT_SAMPLER
from sid2core.inference.guidance_search import chosen
from sid2core.inference.model import Trained
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import artifact, progress, stage
from sid2core.pipeline.artifact import Artifact
from sid2core.training import cluster, mesh

REPORTS = Path("reports/evaluate")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Draw, judge, and write ``artifacts/evaluate``, the tables of samplers and the metrics."""
    cluster.join(params.runtime.launcher)
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
    sharding = mesh.local(params.runtime.mesh).batch
    contestants = _contestants(params, train, search, distill)
    real, evaluator = Dataset.open(prepare, "train"), Evaluator.load(reference, sharding)
    task = Task.of(params, real, evaluator, sharding)
    with cluster.claim("evaluate", made_by, **inputs) as folder:
        _draw(contestants, task, folder)
        if not cluster.first():
            return
        tables = _Tables(task)
        with artifact.create("evaluate", made_by, inputs) as draft:
            grids: dict[str, Any] = {}
            for one in contestants:
                drawn = Drawn.read(folder / one.name, task)
                tables.add(one, drawn)
                grids[one.name] = drawn.grid
                labels = task.labels[: len(drawn.images)]
                np.savez_compressed(
                    draft.path(f"{one.name}.npz"), images=drawn.images, labels=labels
                )
                for measured in evaluator.references:
                    place = draft.path(f"statistics/{one.name}.{measured.extractor.name}.npz")
                    drawn.accumulator.moments(measured).save(place)
            np.savez_compressed(draft.path("grids.npz"), **grids)
            draft.facts |= {"samplers": list(grids), "labels": params.eval.labels}
            tables.add_real(evaluate.real_data_baseline(real, task))
        tables.write()


def _draw(contestants: list[Contestant], task: Task, folder: Path) -> None:
    """All chunks of all samplers, by all processes."""
    total = len(contestants) * len(task.labels) // jax.process_count()
    with progress.bar(total, "evaluate", "image", shown=cluster.first()) as bar:
        for one in contestants:
            found = evaluate.draw(one, task, folder / one.name, bar.update)
            if found:
                _log.info("%s resumes: %d chunks of an earlier run", one.name, found)
    cluster.wait("evaluate: all is drawn")


class _Tables:
    """What is written beside the artifact, gathered sampler by sampler."""

    def __init__(self, task: Task):
        self._task = task
        self._rows: list[dict[str, Any]] = []
        self._scores: list[dict[str, Any]] = []
        self._costs: list[dict[str, Any]] = []
        self._metrics: dict[str, dict[str, float]] = {}

    def add(self, one: Contestant, drawn: Drawn) -> None:
        """A sampler's lines."""
        self._add(one, drawn.accumulator)
        self._costs.append(evaluate.cost_row(one, drawn, self._task))

    def add_real(self, accumulator: evaluate.Accumulator) -> None:
        """The lines of real images."""
        self._add(None, accumulator)

    def _add(self, one: Contestant | None, accumulator: evaluate.Accumulator) -> None:
        found = evaluate.measured(accumulator, self._task.evaluator, self._task.settings)
        row = evaluate.row(one, found, accumulator.agreement())
        self._rows.append(asdict(row))
        self._scores += evaluate.score_rows(row.sampler, found)
        self._metrics[row.sampler] = evaluate.metrics(row, found)

    def write(self) -> None:
        """Write all four files."""
        tables = {"samplers": self._rows, "scores": self._scores, "cost": self._costs}
        for name, rows in tables.items():
            atomic.write_text(REPORTS / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
        atomic.write_json(REPORTS / "metrics.json", self._metrics)


def _contestants(
    params: config.Params, train: Artifact, search: Artifact, distill: Artifact
) -> list[Contestant]:
    """The base model without guidance, with constant and with the found guidance; students."""
    base, sampling = Trained.load(train.folder, build.execution(params.runtime)), params.sampling
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
            base.method(build.sampler(sampling), guidance, sampling.steps, clip=sampling.clip),
            base.params,
        )
        for name, (title, guidance) in guided.items()
    ]
    for name in distill.facts["students"]:
        student = Trained.load(distill.folder / name, build.execution(params.runtime))
        steps = student.config["student_steps"]
        method = student.method(STUDENT_SAMPLER, NoGuidance(), steps, clip=sampling.clip)
        contestants.append(Contestant(name, f"student of {steps} steps", method, student.params))
    return contestants


if __name__ == "__main__":
    stage.run("evaluate", main)
