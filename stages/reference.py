"""reference: what images are measured by, and what it says of both splits."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("reference")

from pathlib import Path

from sid2core import atomic, config
from sid2core.data.load.dataset import Dataset
from sid2core.metrics import reference, statistics
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
    brought = registry.brought(params.eval, mesh.layout(params.runtime.mesh).batch)
    datasets = {split: Dataset.open(prepare, split, params.runtime.cache_mib) for split in SPLITS}
    extractor, curve = classifier_training.train(
        datasets["train"], params.reference, params.seed, params.runtime.prefetch
    )
    own = registry.of_data(extractor)
    with job.create() as draft:
        extractor.save(draft)
        described = {
            one.name: reference.describe(one, datasets, prepare, draft, params.seed)
            for one in (own, *brought)
        }
        accuracy = described[own.name].accuracy
        draft.facts |= {
            **extractor.provenance,
            "provenance": {one.name: dict(one.provenance) for one in brought},
            "feature_size": params.reference.feature_size,
            "accuracy_train": accuracy["train"],
            "accuracy_eval": accuracy["eval"],
            "gauges": list(described),
            "spatial": [name for name, one in described.items() if one.spatial],
            "inception_mode": params.eval.inception_mode,
        }
    train, held_out = (count_name(len(datasets[split])) for split in SPLITS)
    metrics = {
        f"accuracy_eval_{held_out}": accuracy["eval"],
        f"accuracy_train_{train}": accuracy["train"],
    }
    for one in (own, *brought):
        moments = described[one.name].moments
        gap = statistics.distance(moments["train"], moments["eval"])
        metrics[f"{one.distance}_train_{train}_eval_{held_out}"] = gap
    atomic.write_json(METRICS, {name: round(value, 5) for name, value in metrics.items()})
    rows = [f"{point.step},{point.loss:.6g},{point.accuracy:.6g}" for point in curve]
    atomic.write_text(CURVE, "\n".join(["step,loss,accuracy", *rows, ""]))


if __name__ == "__main__":
    stage.run("reference", main)
