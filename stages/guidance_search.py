"""guidance_search: which guidance, and on which interval of log-SNR."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("guidance_search")

from dataclasses import asdict
from itertools import chain
from pathlib import Path

from sid2core import atomic, config
from sid2core.config import build
from sid2core.evaluation import (
    drawing,
    measuring,
    sample_conditions,
    sample_sets,
    sampler_spec,
    tables,
)
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.store import Store
from sid2core.inference import guidance_search
from sid2core.inference.model import Trained
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import context, stage
from sid2core.training import cluster, mesh

REPORTS = Path("reports/guidance_search")


def main(params: config.Params) -> None:
    """Score the grid, then write ``artifacts/guidance_search/best.json`` and the heat map."""
    cluster.join(params.runtime.launcher)
    job = context.begin("guidance_search", params)
    train = job.inputs["train"]
    settings, sampling = params.guidance_search, params.sampling
    sharding = mesh.local(params.runtime.mesh).batch
    evaluator = Evaluator.load(job.inputs["reference"], sharding)
    model = Trained.load(train.checked(), build.execution(params.runtime))
    model = model.with_negative(params.guidance.negative_prompt, sharding)
    kinds = model.condition
    data = sample_conditions.records(job.inputs, model.shape, sharding)
    condition = sample_conditions.conditions(kinds, data, settings.samples, params.seed)
    cells = guidance_search.grid(settings, kinds)
    specs = [
        sampler_spec.guided(model, sampling, cell.guidance, f"cell-{index:04d}")
        for index, cell in enumerate(cells)
    ]
    repeats = [
        sample_sets.search_repeats(spec, condition, settings.samples, settings.repeats, params.seed)
        for spec in specs
    ]
    with cluster.claim("guidance_search", job.made_by, **job.inputs) as folder:
        store = Store.of("guidance_search", folder, params.runtime.drawn_gib)
        run = EvaluationRun(
            "guidance_search", folder, evaluator, sampling.batch_size, sharding, store=store
        )
        measured = drawing.draw_and_measure([*chain(*repeats)], run, measuring.quality)
        if not cluster.first():
            return
        scores = [
            guidance_search.score(cell, spec.method.nfe, measuring.qualities(measured, sets))
            for cell, spec, sets in zip(cells, specs, repeats, strict=True)
        ]
        verdict = guidance_search.verdict(scores)
        with job.create() as draft:
            atomic.write_json(draft.path("best.json"), verdict)
        tables.write_table(REPORTS / "grid.csv", map(asdict, scores))
        atomic.write_json(REPORTS / "metrics.json", guidance_search.metrics(verdict))


if __name__ == "__main__":
    stage.run("guidance_search", main)
