"""prepare: read the source, split it, write Parquet shards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sid2core import artifact, config, stage
from sid2core.data import shards, sources, splits

METRICS = Path("reports/prepare/metrics.json")


def main(params: config.Params) -> None:
    """Write ``artifacts/prepare`` and its metrics."""
    data = params.data
    source = sources.SOURCES[data.source]
    records = sources.read(source)
    parts = splits.split(records, source.class_names, data.train_fraction, params.seed)
    shape = records[0].image.shape
    made_by = {"seed": params.seed, "data": data.model_dump()}
    with artifact.create("prepare", made_by) as draft:
        facts = {}
        for name, part in parts.items():
            counts = Counter(record.label for record in part)
            files = shards.write(
                draft.folder,
                shards.Layout(shape, source.class_names, name),
                part,
                shard_records=data.shard_records,
                row_group_records=data.row_group_records,
            )
            facts[name] = {
                "records": len(part),
                "per_class": [counts[label] for label in range(len(source.class_names))],
                "shards": files,
            }
        draft.facts |= {
            "shape": list(shape),
            "class_names": list(source.class_names),
            "splits": facts,
        }
    metrics = {f"{name}_images": len(part) for name, part in parts.items()}
    artifact.write_json(METRICS, metrics | {"classes": len(source.class_names)})


if __name__ == "__main__":
    stage.run("prepare", main)
