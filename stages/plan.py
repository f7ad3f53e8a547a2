"""plan: the cost of the model and its training, computed before training."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("plan")

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from sid2core import atomic, config
from sid2core.conditioning import ConditionSpec, TextKind
from sid2core.pipeline import context, stage
from sid2core.plan import plan, text

REPORTS = Path("reports/plan")
_DIGITS = "%.6g"


def main(params: config.Params) -> None:
    """Write the tables and the metrics of ``reports/plan``."""
    inputs = context.begin("plan", params).inputs
    metadata, text_metadata = inputs["prepare"].metadata, inputs["text"].metadata["text"]
    kind = None if text_metadata is None else TextKind.from_json(text_metadata["kind"])
    shape = config.clip_shape(tuple(metadata["shape"]), params.loader.clip_frames)
    condition = ConditionSpec.of_manifest(metadata).with_text(kind)
    condition = condition.with_given(params.data.given_frames, shape)
    price = plan.price(params, shape, condition, attention="xla")
    tables = {
        "levels": [asdict(one) for one in price.levels],
        "terms": [asdict(one) for one in price.terms],
        "remat": [
            {
                "remat": one.remat.value,
                "activation_mib_image": one.total / text.MIB,
                "forwards": one.forwards,
            }
            for one in price.activations
        ],
    }
    for name, rows in tables.items():
        table = pd.DataFrame(rows).to_csv(index=False, float_format=_DIGITS)
        atomic.write_text(REPORTS / f"{name}.csv", table)
    metrics = {
        "parameters": price.parameters,
        "gflops_forward": float(_DIGITS % price.gflops),
        "gflops_forward_xla": float(_DIGITS % price.gflops_xla),
        "training_zettaflops": float(_DIGITS % price.training_zettaflops),
        "state_mib": round(price.state_bytes / text.MIB, 3),
        "gradient_mib": round(price.gradient_bytes / text.MIB, 3),
    }
    if price.negative is not None:
        metrics["negative_parameters"] = price.negative.parameters
        zettaflops = float(_DIGITS % price.negative.training_zettaflops)
        metrics["negative_training_zettaflops"] = zettaflops
    if price.distillation is not None:
        made = price.distillation
        zettaflops = sum(map(made.zettaflops, made.students))
        metrics["distillation_zettaflops"] = float(_DIGITS % zettaflops)
        metrics["distillation_state_mib"] = round(made.state_bytes / text.MIB, 3)
    atomic.write_json(REPORTS / "metrics.json", metrics)


if __name__ == "__main__":
    stage.run("plan", main)
