"""prepare: list the source, split it, write Parquet shards image by image."""

from __future__ import annotations

from pathlib import Path

from sid2core import artifact, config, stage
from sid2core.data import preparation

METRICS = Path("reports/prepare/metrics.json")


def main(params: config.Params) -> None:
    """Write ``artifacts/prepare`` and its metrics; memory as :func:`preparation.write` says."""
    data = params.data
    parts = preparation.parts(data, params.seed)
    made_by = {"seed": params.seed, "data": data.model_dump()}
    with artifact.create("prepare", made_by) as draft:
        facts = {part.split: preparation.write(part, draft.folder, data) for part in parts}
        rejects = [reject for part in parts for reject in part.rejects]
        preparation.write_rejects(draft.path(preparation.REJECTS), rejects)
        source = parts[0].source
        draft.facts |= {
            "shape": list(source.shape),
            "class_names": list(source.class_names),
            "decoding": dict(source.decoding),
            "splits": facts,
        }
    metrics = {f"{split}_images": found["records"] for split, found in facts.items()}
    metrics |= {"classes": len(source.class_names), "rejected_images": len(rejects)}
    artifact.write_json(METRICS, metrics)


if __name__ == "__main__":
    stage.run("prepare", main)
