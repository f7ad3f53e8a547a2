"""evaluate: every sampler against both splits, with what it costs."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("evaluate")

from functools import partial
from itertools import chain
from pathlib import Path

from sid2core import config
from sid2core.config import build
from sid2core.evaluation import (
    drawing,
    measuring,
    named_samplers,
    outputs,
    prompt_grid,
    sample_conditions,
    sample_sets,
    sampler_spec,
    tables,
    trajectory,
)
from sid2core.evaluation.clips import baselines, examples, predictions
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.store import Store
from sid2core.inference import guidance_search
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import context, stage
from sid2core.training import cluster, mesh, snapshots

REPORTS = Path("reports/evaluate")


def main(params: config.Params) -> None:
    """Draw, measure, and write ``artifacts/evaluate``, the tables of samplers and the metrics."""
    cluster.join(params.runtime.launcher)
    job = context.begin("evaluate", params)
    train, distill = (job.inputs[name] for name in ("train", "distill"))
    settings, sampling, execution = params.eval, params.sampling, build.execution(params.runtime)
    sharding = mesh.local(params.runtime.mesh).batch
    evaluator = Evaluator.load(job.inputs["reference"], sharding)
    model = Trained.load(train.checked(), execution)
    model = model.with_negative(params.guidance.negative_prompt, sharding)
    models = Models(model, job.inputs["train_negative"])
    found = guidance_search.load(job.inputs["guidance_search"])
    searched, further = models.of(found.guided), found.further(sampling)
    winner = None if further is None else models.of(further)
    students = distill.metadata["students"]
    specs = [
        *sampler_spec.evaluated(model, sampling, params.guidance.weight, searched, winner),
        *sampler_spec.load_students(distill.checked(), students, sampling, execution),
    ]
    listed = settings.named_samplers
    named = named_samplers.specs(listed, model, searched, sampling, job.inputs["train_negative"])
    weights = named_samplers.weights_of(listed)
    made_by = {**job.made_by, **({"folders": weights} if weights else {})}
    steps = snapshots.steps(train.manifest["files"])
    points = trajectory.points(steps, model, searched, found.guided.ema, sampling)
    kinds, count = model.condition, settings.samples
    data = sample_conditions.records(job.inputs, model.shape, sharding)
    dataset = sample_conditions.records(job.inputs, model.shape, sharding, "train")
    condition, asked = sample_sets.asked(model, data, settings, params.seed, sharding)
    samples = [
        sample_sets.evaluated(spec, condition, count, settings.keep, params.seed, asked)
        for spec in specs
    ]
    unseen = [
        sample_sets.evaluated(spec, condition, count, 0, params.seed, asked) for spec in named
    ]
    repeats = [
        sample_sets.evaluated(spec, condition, count, 0, params.seed, asked, repeat)
        for repeat in range(1, settings.repeats)
        for spec in (*specs, *named)
    ]
    over_training = [
        sample_sets.evaluated(one.spec, condition, count, 0, params.seed, asked) for one in points
    ]
    prompts = prompt_grid.of_model(model, specs, settings, params.seed, sharding)
    grids = [sample_sets.grid(spec, data, settings.grid_columns, params.seed) for spec in specs]
    real = sample_sets.real_baseline(dataset, kinds, count, params.seed)
    compared = [*baselines.sets(data, kinds, count, params.seed), real]
    windows = baselines.windows(data, kinds, count, params.seed)
    continued = predictions.of_model(data, specs, settings.prediction, params.seed, kinds)
    held_out = sample_conditions.records(job.inputs, model.shape, sharding, "eval")
    clips = examples.of_model(held_out, specs, params.seed, continued)
    with cluster.claim("evaluate", made_by, **job.inputs) as folder:
        run = EvaluationRun(
            "evaluate",
            folder,
            evaluator,
            sampling.batch_size,
            sharding,
            settings.chunk_size,
            Store.of("evaluate", folder, params.runtime.drawn_gib),
        )
        shown = [*grids, *chain(*(grid.sets for grid in prompts)), *continued.sets, *clips.drawn]
        measure = partial(
            measuring.all_scores,
            evaluator=evaluator,
            settings=settings,
            windows=measuring.real_windows(windows, run),
        )
        drawn = [*samples, *unseen, *repeats, *over_training]
        sets: list[drawing.ImageSet] = [*drawn, *shown, *compared]
        measured = drawing.draw_and_measure(sets, run, measure)
        if not cluster.first():
            return
        with job.create() as draft:
            costs = [*outputs.save(draft, samples, grids, run), *outputs.costs(unseen, run)]
            draft.metadata |= {"folders": weights} if weights else {}
            draft.metadata |= {"named": [one.name for one in named]} if named else {}
            draft.metadata |= {"samplers": [one.name for one in specs], "labels": settings.labels}
            if compared[:-1]:
                draft.metadata |= {"baselines": [one.name for one in compared[:-1]]}
            rows = sample_sets.grid_records(kinds, data, params.seed)
            draft.metadata |= {} if rows is None else {"grid": rows}
            prompt_grid.save(draft, prompts, run)
            examples.save(draft, clips, run)
        scores = predictions.added(measuring.joined(measured), continued, run)
        tables.write(REPORTS, [*specs, *named, *(one.name for one in compared)], scores)
        tables.write_table(REPORTS / "cost.csv", costs)
        trajectory.write(REPORTS, points, scores, evaluator.primary.extractor.distance)


if __name__ == "__main__":
    stage.run("evaluate", main)
