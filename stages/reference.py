"""reference: train the data set's own feature extractor, and describe both splits by it."""

from __future__ import annotations

from pathlib import Path

from sid2core import artifact, config, stage
from sid2core.data.dataset import Dataset
from sid2core.data.splits import SPLITS
from sid2core.metrics import classifier_training, statistics
from sid2core.metrics.names import count_name

METRICS = Path("reports/reference/metrics.json")
CURVE = Path("reports/reference/curve.csv")


def main(params: config.Params) -> None:
    """Write ``artifacts/reference``, its metrics and its training curve."""
    prepare = artifact.load("prepare")
    datasets = {split: Dataset.open(prepare, split, params.runtime.cache_mib) for split in SPLITS}
    extractor, curve = classifier_training.train(
        datasets["train"], params.reference, params.seed, params.runtime.prefetch
    )
    made_by = {"seed": params.seed, "reference": params.reference.model_dump()}
    with artifact.create("reference", made_by, {"prepare": prepare}) as draft:
        extractor.save(draft)
        moments, accuracy = {}, {}
        for split, dataset in datasets.items():
            found, accuracy[split] = classifier_training.describe(extractor, dataset)
            provenance = extractor.provenance | {"data": prepare.digest, "split": split}
            moments[split] = found.moments(provenance)
            moments[split].save(draft.path(f"{split}.npz"))
        draft.facts |= {
            **extractor.provenance,
            "feature_size": params.reference.feature_size,
            "accuracy_train": accuracy["train"],
            "accuracy_eval": accuracy["eval"],
        }
    train, held_out = (count_name(len(datasets[split])) for split in SPLITS)
    distance = statistics.distance(moments["train"], moments["eval"])
    metrics = {
        f"accuracy_eval_{held_out}": accuracy["eval"],
        f"accuracy_train_{train}": accuracy["train"],
        f"fd_train_{train}_eval_{held_out}": distance,
    }
    artifact.write_json(METRICS, {name: round(value, 5) for name, value in metrics.items()})
    rows = [f"{point.step},{point.loss:.6g},{point.accuracy:.6g}" for point in curve]
    artifact.write_text(CURVE, "\n".join(["step,loss,accuracy", *rows, ""]))


if __name__ == "__main__":
    stage.run("reference", main)
