"""A finished project whose teacher is distilled again and again, by the functions of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sid2core import config
from sid2core.conditioning import Condition
from sid2core.config import build
from sid2core.config.named_samplers import NONE, SEARCHED, NamedSampler
from sid2core.config.search import USUAL
from sid2core.data.load.dataset import Dataset
from sid2core.data.load.loader import Loader
from sid2core.diffusion.samplers import Posterior
from sid2core.distillation import trainer
from sid2core.distillation.states import States
from sid2core.distillation.teacher import Guided, Teacher
from sid2core.distillation.trainer import Student
from sid2core.evaluation import (
    drawing,
    named_samplers,
    sample_conditions,
    sample_sets,
    sampler_spec,
)
from sid2core.evaluation.drawing import EvaluationRun, Measured
from sid2core.evaluation.sampler_spec import SamplerSpec
from sid2core.inference import guidance_search
from sid2core.inference.model import Trained
from sid2core.inference.searched import Models, Searched
from sid2core.metrics import precision_recall, uncertainty
from sid2core.metrics.evaluator import Accumulator, Evaluator
from sid2core.metrics.networks.protocol import POOL
from sid2core.metrics.uncertainty import Expansion
from sid2core.pipeline import artifact
from sid2core.pipeline.artifact import Artifact
from sid2core.text import prompts
from sid2core.training import loop, mesh

TEACHER = "teacher"
INPUTS = (
    *("prepare", "text", "reference", "train"),
    *("train_negative", "guidance_search"),
)
"""The artifacts that a project must have: those of ``dvc repro guidance_search``."""
LEVEL = 0.9
"""Confidence level of all intervals."""
SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "ddpm": {"name": "ddpm", "ddpm": {"logvar_fraction": 0.3}},
    "ddim": {"name": "ddim"},
    "addim": {"name": "addim", "addim": {"eta": 0.1}},
    "dpm_solver": {"name": "dpm_solver"},
    "heun": {"name": "heun"},
}
"""The samplers that students are compared with, as the presets of the paper's models have them."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What is measured of a set of samples.

    Attributes:
        expansion: of the distance to the eval split; differences of distances are made of two.
        values: the numbers that the table shows, by name.
    """

    expansion: Expansion
    values: Mapping[str, float | None]

    def below(self, other: Scores) -> list[float]:
        """This distance less the other's, with its paired interval: [value, low, high]."""
        found = uncertainty.difference(self.expansion, other.expansion, LEVEL)
        return [round(one, 6) for one in (found.value, found.low, found.high)]


@dataclass(frozen=True, eq=False)
class Project:
    """The artifacts and parameters of a project, read once.

    Attributes:
        params: its parameters.
        inputs: its artifacts by stage.
        trained: its base model.
        found: the teacher, the setting of the search that ``distill.teacher`` names.
        guided: the search's best setting with guidance.
        evaluator: measures samples.
    """

    params: config.Params
    inputs: Mapping[str, Artifact]
    trained: Trained
    found: Searched
    guided: Searched
    evaluator: Evaluator

    @classmethod
    def load(cls, params: config.Params, root: Path) -> Project:
        """Read the artifacts below ``root``.

        Raises:
            ArtifactError: one is missing or damaged.
        """
        inputs = {name: artifact.load(name, root=root) for name in INPUTS}
        sharding = mesh.local(params.runtime.mesh).batch
        trained = Trained.load(inputs["train"].checked(), build.execution(params.runtime))
        prompted = trained.with_negative(params.guidance.negative_prompt, sharding)
        models = Models(prompted, inputs["train_negative"])
        search = guidance_search.load(inputs["guidance_search"])
        found = models.of(search.teacher(params.distill.teacher))
        evaluator = Evaluator.load(inputs["reference"], sharding)
        return cls(params, inputs, trained, found, models.of(search.guided), evaluator)

    @property
    def digests(self) -> dict[str, str]:
        """What the numbers depend on, by stage."""
        return {name: one.digest for name, one in self.inputs.items()}

    def teacher(self) -> SamplerSpec:
        """The teacher as ``distill`` scores it."""
        return sampler_spec.searched(self.found, self.params.sampling, TEACHER)

    def samplers(
        self, names: Sequence[str], evaluations: Sequence[int]
    ) -> list[tuple[int, SamplerSpec]]:
        """The base model's samplers, each with at most these numbers of network evaluations.

        Each once without guidance and once with :attr:`guided`'s; as many steps as fit. Those of
        which not even one step fits are left out and printed.
        """
        base = self.found.model
        made = list[tuple[int, SamplerSpec]]()
        for name in names:
            sampler = config.Sampler.model_validate(SAMPLERS[name])
            for guidance in (NONE, SEARCHED):
                for count in evaluations:
                    suffix = "" if guidance == NONE else "_guided"
                    row = NamedSampler(
                        name, f"{name}_{count}{suffix}", USUAL, sampler, None, count, guidance
                    )
                    trained = self.inputs["train_negative"]
                    sampling = self.params.sampling
                    try:
                        found = named_samplers.specs([row], base, self.guided, sampling, trained)
                        made += [(count, one) for one in found]
                    except config.ParamsError as error:
                        print(f"left out: {error}", flush=True)
        return made

    def sampler(self, settings: config.Distill, student: Student, steps: int) -> SamplerSpec:
        """What draws from a student."""
        step = Posterior(settings.eta)
        model, sampling = self.found.model, self.params.sampling
        return sampler_spec.student(model, student.params, steps, step, sampling)

    def student(
        self,
        settings: config.Distill,
        steps: int,
        seed: int,
        folder: Path,
        start: Student | None = None,
    ) -> Student:
        """Trained by the functions of the stage ``distill``; continued after a kill.

        Args:
            settings: the section ``distill``.
            steps: that it takes.
            seed: of its data and its noise.
            folder: of its checkpoints.
            start: the student that it starts from; None for the teacher.
        """
        runtime, text = self.params.runtime, self.inputs["text"]
        teacher, worse, layout = self.found.model, self.found.worse, mesh.layout(runtime.mesh)
        dataset = Dataset.open(
            self.inputs["prepare"],
            "train",
            runtime.cache_mib,
            text,
            clip_frames=self.trained.shape.frames,
        )
        loader = Loader(
            dataset,
            settings.batch_size,
            seed,
            self.params.loader,
            runtime.prefetch,
            sharding=layout.batch,
            condition=self.trained.condition,
            embed=prompts.embed_of(text, layout.batch),
        )
        negative = None if worse is None else worse.denoiser
        form = settings.form.build(
            states=States.of(settings, teacher.denoiser, teacher.schedule, steps),
            teacher=Guided(teacher.denoiser, self.found.guidance, negative),
        )
        weights = Teacher(teacher.params, None if worse is None else worse.params)
        run = trainer.distillation_run(settings, form, weights, loader, seed, layout, start)
        state, _ = loop.fit(run, folder / run.name, runtime)
        return Student(*layout.host((state["ema"], form.kept(state))))


@dataclass(frozen=True, eq=False)
class Measuring:
    """Draws and measures samples of a project: equal noise and conditions for every sampler.

    Attributes:
        project: whose evaluator measures.
        seed: of noise and conditions.
        samples: how many.
        folder: where samples are, for a command that is started again.
    """

    project: Project
    seed: int
    samples: int
    folder: Path

    def scores(self, spec: SamplerSpec, folder: Path | None = None) -> Scores:
        """Draw and measure.

        Args:
            spec: what draws.
            folder: where to, instead of the one for all.
        """
        one = self.project
        sharding = mesh.local(one.params.runtime.mesh).batch
        run = EvaluationRun(
            "distillation",
            folder or self.folder,
            one.evaluator,
            one.params.sampling.batch_size,
            sharding,
        )
        samples = sample_sets.evaluated(spec, self._condition(), self.samples, 0, self.seed)
        measure = partial(_measure, evaluator=one.evaluator)
        (found,) = drawing.draw_and_measure([samples], run, measure).values()
        expansion = Expansion(
            found["values"]["fd"], np.array(found["influence"]), np.array(found["halves"])
        )
        return Scores(expansion, found["values"])

    def _condition(self) -> Condition:
        one = self.project
        sharding = mesh.local(one.params.runtime.mesh).batch
        data = sample_conditions.records(one.inputs, one.trained.shape, sharding)
        kinds = one.trained.condition
        return sample_conditions.conditions(kinds, data, self.samples, self.seed)


def _measure(accumulator: Accumulator, evaluator: Evaluator) -> Measured:
    """The distance to the eval split with its expansion, and what shows a mode collapse."""
    reference = evaluator.primary
    pool = accumulator.features(reference, POOL)
    (expansion,) = uncertainty.expansions(
        pool,
        [reference.moments["eval"].normal],
        moments=accumulator.moments(reference),
        strata=accumulator.strata(),
    )
    near = precision_recall.precision_recall(reference.train_features, pool)
    wide = precision_recall.density_coverage(reference.train_features, pool)
    return {
        "values": {
            "fd": expansion.distance,
            "agreement": accumulator.agreement(),
            **near._asdict(),
            "coverage": wide.coverage,
        },
        "influence": expansion.influence.tolist(),
        "halves": expansion.halves.tolist(),
    }
