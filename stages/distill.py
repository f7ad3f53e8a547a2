"""distill: the guided base model into students of few steps."""

from __future__ import annotations

from sid2core.pipeline import launch

if __name__ == "__main__":
    launch.prepare("distill")

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from sid2core import atomic, config
from sid2core.config import build
from sid2core.data.load import pace
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Loader
from sid2core.diffusion import samplers
from sid2core.distillation import trainer
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.distillation.trainer import Student
from sid2core.evaluation import measuring, sample_conditions, sample_sets, sampler_spec
from sid2core.evaluation.drawing import EvaluationRun
from sid2core.evaluation.store import Store
from sid2core.inference import guidance_search
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models
from sid2core.metrics.evaluator import Evaluator
from sid2core.models import network
from sid2core.pipeline import context, stage, workdir
from sid2core.text import prompts
from sid2core.training import cluster, loop, mesh

REPORTS = Path("reports/distill")


def main(params: config.Params) -> None:
    """Score the teacher, distil each student, write ``artifacts/distill`` and the curves."""
    cluster.join(params.runtime.launcher)
    job = context.begin("distill", params)
    prepare, train = job.inputs["prepare"], job.inputs["train"]
    settings, sampling = params.distill, params.sampling
    text = job.inputs["text"]
    trained = Trained.load(train.checked(), build.execution(params.runtime))
    frames = trained.shape.frames
    dataset = Dataset.open(prepare, "train", params.runtime.cache_mib, text, clip_frames=frames)
    local = mesh.local(params.runtime.mesh).batch
    setting = guidance_search.load(job.inputs["guidance_search"]).teacher(settings.teacher)
    pushed = trained.with_negative(params.guidance.negative_prompt, local)
    found = Models(pushed, job.inputs["train_negative"]).of(setting)
    teacher, worse = found.model, found.worse
    kinds = trained.condition
    layout = mesh.layout(params.runtime.mesh)
    loader = Loader(
        dataset,
        settings.batch_size,
        params.seed,
        params.loader,
        params.runtime.prefetch,
        sharding=layout.batch,
        condition=kinds,
        embed=prompts.embed_of(text, layout.batch),
    )
    evaluator = Evaluator.load(job.inputs["reference"], local)
    count = settings.score_samples
    data = sample_conditions.records(job.inputs, teacher.shape, local)
    condition = sample_conditions.conditions(kinds, data, count, params.seed)
    with cluster.claim_training("distill", job.made_by, **job.inputs) as folder:
        scores = workdir.of_this_code(folder / "scores", "distill")
        store = Store.of("distill", folder, params.runtime.drawn_gib)
        scoring = EvaluationRun(
            "distill", scores, evaluator, sampling.batch_size, local, store=store
        )
        spec = sampler_spec.searched(found, sampling, "teacher")
        samples = sample_sets.distilled(spec, condition, count, params.seed)
        metrics = {spec.name: measuring.distillation_metrics(samples, scoring)}
        guided = Guided(teacher.denoiser, found.guidance, None if worse is None else worse.denoiser)
        weights = Teacher(teacher.params, None if worse is None else worse.params)
        sampler = samplers.Posterior(settings.eta)
        students, curves, speeds = dict[int, Student](), [], []
        order = sorted(settings.steps, reverse=True) if settings.from_student else settings.steps
        for steps in order:
            states = States.of(settings, teacher.denoiser, teacher.schedule, steps)
            form = settings.form.build(states=states, teacher=guided)
            start = students.get(2 * steps) if settings.from_student else None
            run = trainer.distillation_run(
                settings, form, weights, loader, params.seed, layout, start
            )
            state, log = loop.fit(run, folder / run.name, params.runtime)
            made = Student(*layout.host((state["ema"], form.kept(state))))
            spec = sampler_spec.student(teacher, made.params, steps, sampler, sampling)
            samples = sample_sets.distilled(spec, condition, count, params.seed)
            metrics[spec.name] = measuring.distillation_metrics(samples, scoring)
            students[steps] = made
            curves.append(pd.DataFrame(log.rows).assign(student=spec.name))
            speeds.append(pd.DataFrame(log.speed).assign(student=spec.name))
        if not cluster.first():
            return
        with job.create() as draft:
            for steps, made in students.items():
                extra = {"diffusion": teacher.config["diffusion"], "student_steps": steps}
                extra |= {"student_eta": settings.eta} | pace.of_model(prepare.metadata)
                place = draft.folder / sampler_spec.student_name(steps)
                network.save(place, trained.denoiser.network, made.params, extra)
                for name, arrays in made.kept.items():
                    network.save_weights(place / f"{name}.safetensors", arrays)
                if kinds.text is not None:
                    prompts.copy(train.checked(prompts.FOLDER), place)
            draft.metadata |= {
                "students": [sampler_spec.student_name(steps) for steps in settings.steps],
                "teacher": asdict(setting),
            }
        names = {"step": "iteration", "loss": "loss_auxiliary"}
        for table, parts in (("curve.csv", curves), ("speed.csv", speeds)):
            atomic.write_csv(REPORTS / table, pd.concat(parts).rename(columns=names))
        atomic.write_json(REPORTS / "metrics.json", metrics)


if __name__ == "__main__":
    stage.run("distill", main)
