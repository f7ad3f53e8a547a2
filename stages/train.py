"""train: the base model."""

from __future__ import annotations

import logging
from pathlib import Path

import jax
from clu import parameter_overview

from sid2core import artifact, config, recipe, stage, work
from sid2core.data.dataset import Dataset
from sid2core.data.loader import Loader
from sid2core.models import cost, network
from sid2core.training import base, loop, start
from sid2core.training.log import Log
from sid2core.training.samples import Samples

REPORTS = Path("reports/train")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Train, then write ``artifacts/train`` (EMA weights); the curve and the metrics meanwhile."""
    prepare = artifact.load("prepare")
    dataset = Dataset.open(prepare, "train", params.runtime.cache_mib)
    shape = recipe.network(params.model, dataset.shape, dataset.num_classes)
    net = network.Network(shape, recipe.execution(params.runtime))
    overview = parameter_overview.get_parameter_overview(net.shapes(), include_stats=False)
    _log.info("parameters\n%s", overview)
    begin = start.read(params.train, params.diffusion.prediction, net)
    made_by = {
        "seed": params.seed,
        "loader": params.loader.model_dump(),
        "diffusion": params.diffusion.model_dump(),
        "model": params.model.model_dump(),
        "train": params.train.model_dump(),
    }
    loader = Loader(
        dataset, params.train.batch_size, params.seed, params.loader, params.runtime.prefetch
    )
    run = base.base_run(params, net, loader, begin)

    def show(log: Log) -> None:
        """DVC and who watches its files see how far it is: ``dvc exp show``, ``dvc plots show``."""
        REPORTS.mkdir(parents=True, exist_ok=True)
        log.flush(REPORTS)
        steps, loss = int(log.rows[-1]["step"]), log.latest("loss")
        metrics = {
            "loss": None if loss is None else round(loss, 5),
            "steps": steps,
            "parameters": sum(array.size for array in net.shapes().values()),
            "gflops_forward": round(cost.forward_gflops(shape), 6),
            "training_pflops": round(cost.training_pflops(shape, steps * run.images_per_step), 4),
        }
        artifact.write_json(REPORTS / "metrics.json", metrics)

    with work.claim("train", made_by | {"start": begin.facts}, prepare=prepare) as folder:
        samples = Samples.of(params, net, folder / "samples", REPORTS / "samples")
        samples.restore()
        state, log = loop.fit(run, folder, params.runtime, show=show, look=samples)
        with artifact.create("train", made_by, {"prepare": prepare}) as draft:
            weights = jax.device_get(state["ema"])
            network.save(draft.folder, net, weights, {"diffusion": made_by["diffusion"]})
            draft.facts |= {"steps": params.train.steps, **begin.facts}
        show(log)


if __name__ == "__main__":
    stage.run("train", main)
