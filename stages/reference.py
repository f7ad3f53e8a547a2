"""reference: the feature extractors, and statistics of both splits by each."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("reference")

from pathlib import Path

from sid2core import atomic, config
from sid2core.data.load.dataset import Dataset
from sid2core.metrics import reference, statistics
from sid2core.metrics.captions import extractor as captions
from sid2core.metrics.captions import scores as caption_scores
from sid2core.metrics.captions import training as caption_training
from sid2core.metrics.evaluator import SPLITS
from sid2core.metrics.names import count_name
from sid2core.metrics.networks import classifier_training, registry
from sid2core.pipeline import context, stage
from sid2core.training import mesh

METRICS = Path("reports/reference/metrics.json")
CURVE = Path("reports/reference/curve.csv")


def main(params: config.Params) -> None:
    """Write ``artifacts/reference``, its metrics and its training curve."""
    job = context.begin("reference", params)
    prepare = job.inputs["prepare"]
    sharding = mesh.layout(params.runtime.mesh).batch
    supplied = registry.supplied(params.eval.extractors, sharding)
    frames, cache = params.loader.clip_frames, params.runtime.cache_mib
    datasets = {one: Dataset.open(prepare, one, cache, clip_frames=frames) for one in SPLITS}
    for extractor in supplied:
        extractor.check(datasets["train"].shape)
    own, curve = classifier_training.train(
        datasets["train"], params.reference, params.seed, params.runtime.prefetch
    )
    extractors, judge = [own, *supplied], None
    if caption_training.captioned(datasets["train"]):
        attributes = prepare.metadata.get("attributes") or {}
        judge, _ = caption_training.train(
            datasets["train"], datasets["eval"], attributes, params.reference, params.seed
        )
    with job.create() as draft:
        registry.save(draft, extractors, registry.primary(params.eval))
        if judge is not None:
            judge.save(lambda file: draft.path(f"{captions.NAME}/{file}"))
            draft.metadata[captions.NAME] = dict(judge.provenance)
        measured = {
            one.name: reference.measure(one, datasets, prepare, draft, params.seed)
            for one in extractors
        }
        accuracy = measured[own.name].accuracy
        draft.metadata |= {
            **own.provenance,
            "provenance": {one.name: dict(one.provenance) for one in supplied},
            "feature_size": params.reference.feature_size,
            "accuracy_train": accuracy["train"],
            "accuracy_eval": accuracy["eval"],
        }
    train, held_out = (count_name(len(datasets[split])) for split in SPLITS)
    metrics = dict[str, float]()
    if accuracy["train"] is not None and accuracy["eval"] is not None:
        metrics[f"accuracy_eval_{held_out}"] = accuracy["eval"]
        metrics[f"accuracy_train_{train}"] = accuracy["train"]
    for one in extractors:
        moments = measured[one.name].moments
        gap = statistics.distance(moments["train"], moments["eval"])
        metrics[f"{one.distance}_train_{train}_eval_{held_out}"] = gap
    if judge is not None:
        for score in caption_scores.of_split(judge, datasets["eval"]):
            metrics[f"{score.metric}_eval_{count_name(score.samples)}"] = score.value
    atomic.write_json(METRICS, {name: round(value, 5) for name, value in metrics.items()})
    rows = [f"{point.step},{point.loss:.6g},{point.accuracy:.6g}" for point in curve]
    atomic.write_text(CURVE, "\n".join(["step,loss,accuracy", *rows, ""]))


if __name__ == "__main__":
    stage.run("reference", main)
