"""train: the base model."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("train")

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from clu import parameter_overview

from sid2core import atomic, config
from sid2core.config import build
from sid2core.data.load import pace
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Loader
from sid2core.evaluation import sample_conditions
from sid2core.models import cost, network
from sid2core.models.architecture import UViTConfig
from sid2core.pipeline import context, stage
from sid2core.pipeline.context import Context
from sid2core.text import prompts
from sid2core.training import base, cluster, ema, initialisation, loop, mesh, snapshots
from sid2core.training import samples as preview
from sid2core.training.log import Log
from sid2core.training.sample_prompts import SampleConditions
from sid2core.training.samples import Samples
from sid2core.training.snapshots import Snapshots

REPORTS = Path("reports/train")
_log = logging.getLogger(__name__)


def main(params: config.Params) -> None:
    """Train, then write ``artifacts/train`` (EMA weights); the curve and the metrics meanwhile."""
    train("train", params, REPORTS)


def train(name: str, params: config.Params, reports: Path) -> None:
    """The same for the stage ``name``, with its reports in the folder ``reports``."""
    cluster.join(params.runtime.launcher)
    job = context.begin(name, params)
    prepare = job.inputs["prepare"]
    text = job.inputs["text"]
    dataset = Dataset.open(
        prepare, "train", params.runtime.cache_mib, text, clip_frames=params.loader.clip_frames
    )
    kinds = dataset.condition.with_given(params.data.given_frames, dataset.shape)
    shape = build.network(params.model, dataset.shape, kinds)
    net = network.Network(shape, build.execution(params.runtime))
    overview = parameter_overview.get_parameter_overview(net.shapes(), include_stats=False)
    _log.info("parameters\n%s", overview)
    begin = initialisation.read(params.train, params.diffusion.prediction, net)
    layout = mesh.layout(params.runtime.mesh)
    loader = Loader(
        dataset,
        params.train.batch_size,
        params.seed,
        params.loader,
        params.runtime.prefetch,
        sharding=layout.batch,
        condition=kinds,
        embed=prompts.embed_of(text, layout.batch),
    )
    settings = params.train
    objective = base.objective_of(
        params.diffusion, net, settings.condition_dropout, begin.frozen, settings.given_dropout
    )
    bias = build.moving_bias(params.diffusion.loss)
    run = base.base_run(
        objective,
        params.train,
        loader,
        params.seed,
        curves={} if bias is None else {"bias": bias},
        layout=layout,
        start=begin.params,
    )
    run = replace(
        run, export=partial(_export, net, layout, {"diffusion": job.made_by["diffusion"]})
    )

    shown = _shown(shape, job, params)
    shown.read()

    def show(log: Log) -> None:
        _report(net, log, params.train.batch_size, reports)

    with cluster.claim_training(
        name, {**job.made_by, "start": begin.metadata}, **job.inputs
    ) as folder:
        samples = Samples(
            preview.method(objective, params.sampling),
            shown,
            params.seed,
            layout,
            folder / "samples",
            reports / "samples",
        )
        samples.restore()
        kept = Snapshots(
            params.train.snapshots or (),
            [*ema.shares(params.train.emas)],
            layout,
            folder / snapshots.FOLDER,
        )
        state, log = loop.fit(run, folder, params.runtime, show=show, look=samples, snapshots=kept)
        weights, emas = layout.host((state["ema"], state["emas"]))
        if not cluster.first():
            return
        with job.create() as draft:
            extra = {"diffusion": job.made_by["diffusion"], **pace.of_model(prepare.metadata)}
            network.save(draft.folder, net, weights, extra)
            if kinds.text is not None:
                prompts.copy(text.checked(prompts.ENCODER), draft.folder)
            for kind, average in emas.items():
                network.save_weights(draft.path(f"{kind}.safetensors"), average)
            kept.copy(draft.folder)
            draft.metadata |= {"steps": params.train.steps, **begin.metadata}
        show(log)


def _shown(shape: UViTConfig, job: Context, params: config.Params) -> SampleConditions:
    """The conditions of the samples that are drawn while it trains."""
    text, spec, path = job.inputs["text"], shape.condition, params.runtime.sample_prompts
    sharding = mesh.local(params.runtime.mesh).batch
    data = sample_conditions.records(job.inputs, shape, sharding)
    usual = sample_conditions.conditions(spec, data, preview.COUNT, params.seed)
    encoder = None
    if path is not None and spec.text is not None:
        encoder = prompts.of_artifact(text, spec.text, sharding)
    return SampleConditions(usual, preview.COUNT, spec, path, encoder)


def _export(
    net: network.Network,
    layout: mesh.Layout,
    extra: Mapping[str, Any],
    folder: Path,
    state: Mapping[str, Any],
) -> None:
    """Write the EMA weights of ``state`` for ``train.init_from``; called by all processes."""
    weights = layout.host(state["ema"])
    if cluster.first():
        network.save(folder, net, weights, extra)


def _report(net: network.Network, log: Log, batch_size: int, reports: Path) -> None:
    """The curve and the metrics as far as they are: ``dvc exp show`` shows them as they grow."""
    reports.mkdir(parents=True, exist_ok=True)
    log.flush(reports)
    steps, loss = int(log.rows[-1]["step"]), log.latest("loss")
    metrics = {
        "loss": None if loss is None else round(loss, 5),
        "steps": steps,
        "parameters": sum(shape.size for shape in net.shapes().values()),
        "gflops_forward": round(cost.forward_gflops(net.config), 6),
        "training_pflops": round(cost.training_pflops(net.config, steps * batch_size), 4),
    }
    atomic.write_json(reports / "metrics.json", metrics)


if __name__ == "__main__":
    stage.run("train", main)
