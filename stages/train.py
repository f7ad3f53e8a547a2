"""train: the base model."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from clu import parameter_overview

from sid2core import artifact, config, recipe, stage
from sid2core.data.dataset import Dataset
from sid2core.data.loader import Loader
from sid2core.models import cost, network
from sid2core.training import base, cluster, loop, mesh

REPORTS = Path("reports/train")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Train, then write ``artifacts/train`` (EMA weights), the curve and the metrics."""
    cluster.join(params.runtime.launcher)
    prepare = artifact.load("prepare")
    dataset = Dataset.open(prepare, "train", params.runtime.cache_mib)
    shape = recipe.network(params.model, dataset.shape, dataset.num_classes)
    net = network.Network(shape, recipe.execution(params.runtime))
    overview = parameter_overview.get_parameter_overview(net.shapes(), include_stats=False)
    _log.info("parameters\n%s", overview)
    made_by = {
        "seed": params.seed,
        "loader": params.loader.model_dump(),
        "diffusion": params.diffusion.model_dump(),
        "model": params.model.model_dump(),
        "train": params.train.model_dump(),
    }
    layout = mesh.layout(params.runtime.mesh)
    loader = Loader(
        dataset,
        params.train.batch_size,
        params.seed,
        params.loader,
        params.runtime.prefetch,
        sharding=layout.batch,
    )
    run = base.base_run(params, net, loader, layout)
    with cluster.claim("train", made_by, prepare=prepare) as folder:
        state, log = loop.fit(run, folder, params.runtime)
        weights, emas = layout.host((state["ema"], state["emas"]))
        if not cluster.first():
            return
        with artifact.create("train", made_by, {"prepare": prepare}) as draft:
            network.save(draft.folder, net, weights, {"diffusion": made_by["diffusion"]})
            for name, average in emas.items():
                network.save_weights(draft.path(f"{name}.safetensors"), average)
            draft.facts |= {"steps": params.train.steps}
        _report(params, net, folder, log, weights)


def _report(
    params: config.Params, net: network.Network, folder: Path, log: loop.Log, weights: Any
) -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    for table in ("curve.csv", "speed.csv"):
        shutil.copyfile(folder / table, REPORTS / table)
    images = params.train.steps * params.train.batch_size
    metrics = {
        "loss": round(log.rows[-1]["loss"], 5),
        "steps": params.train.steps,
        "parameters": sum(array.size for array in weights.values()),
        "gflops_forward": round(cost.forward_gflops(net.config), 6),
        "training_pflops": round(cost.training_pflops(net.config, images), 4),
    }
    artifact.write_json(REPORTS / "metrics.json", metrics)


if __name__ == "__main__":
    stage.run("train", main)
