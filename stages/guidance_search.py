"""guidance_search: which average, negative, weight and interval of log-SNR."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("guidance_search")

from dataclasses import asdict
from pathlib import Path

from sid2core import atomic, config
from sid2core.config import build
from sid2core.evaluation import race, sample_conditions, sampler_spec, tables
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.race import Runner
from sid2core.evaluation.store import Store
from sid2core.inference import guidance_search
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models, weights_of
from sid2core.metrics.evaluator import Evaluator
from sid2core.pipeline import context, stage
from sid2core.training import cluster, mesh

REPORTS = Path("reports/guidance_search")


def main(params: config.Params) -> None:
    """Race the settings, then write ``artifacts/guidance_search/best.json`` and the table."""
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
    searched = guidance_search.settings(settings, kinds, sampling)
    models = Models(model, job.inputs["train_negative"])
    runners = [
        Runner(one, sampler_spec.searched(models.of(one), sampling, f"setting-{index:04d}"))
        for index, one in enumerate(searched)
    ]
    others = weights_of(searched)
    made_by = {**job.made_by, **({"negatives": others} if others else {})}
    with cluster.claim("guidance_search", made_by, **job.inputs) as folder:
        run = EvaluationRun(
            "guidance_search",
            folder,
            evaluator,
            sampling.batch_size,
            sharding,
            images_per_chunk=settings.first,
            store=Store.of("guidance_search", folder, params.runtime.drawn_gib),
        )
        scores, images = race.run(race.distinct(runners), condition, settings, run, params.seed)
        if not cluster.first():
            return
        verdict = guidance_search.verdict(scores, images, settings.confidence)
        with job.create() as draft:
            atomic.write_json(draft.path("best.json"), verdict)
            draft.metadata |= {"negatives": others} if others else {}
        tables.write_table(REPORTS / "grid.csv", map(asdict, scores))
        atomic.write_json(REPORTS / "metrics.json", guidance_search.metrics(verdict))


if __name__ == "__main__":
    stage.run("guidance_search", main)
