"""The samplers that a stage draws from: a model's weights, and how images are drawn from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sid2core import config
from sid2core.config import build
from sid2core.diffusion.guidance import ConstantGuidance, Guidance, NoGuidance
from sid2core.diffusion.samplers import Posterior
from sid2core.evaluation.samplers_table import STUDENTS
from sid2core.inference.generator import Method
from sid2core.inference.model import Trained
from sid2core.inference.negatives import WorseModel
from sid2core.inference.searched import Searched
from sid2core.models.execution import Execution
from sid2core.typing import Array

Weights = Mapping[str, Array | NDArray[Any]]
"""Flat name → array, on devices or on the host."""


@dataclass(frozen=True, eq=False)
class SamplerSpec:
    """A sampler: its name in files and metrics, its title on the page, its method and weights.

    ``student`` says whether it is a distilled model, ``worse`` is the negative of autoguidance.
    Samplers of one ``series`` differ in their steps only; a sampler of its own has none.
    """

    name: str
    title: str
    method: Method
    params: Weights
    student: bool = False
    worse: WorseModel | None = None
    series: str = ""


def guided(
    model: Trained, sampling: config.Sampling, guidance: Guidance, name: str, title: str = ""
) -> SamplerSpec:
    """The base model with the sampler of ``sampling`` and a guidance."""
    return searched(Searched(model, guidance), sampling, name, title)


def searched(found: Searched, sampling: config.Sampling, name: str, title: str = "") -> SamplerSpec:
    """A setting, with the sampler and the steps of ``sampling`` where it has none of its own."""
    sampler, clip_x = found.sampler or build.sampler(sampling), build.clip_x(sampling)
    method = found.model.method(
        sampler, found.guidance, found.steps or sampling.steps, clip_x=clip_x
    )
    return SamplerSpec(name, title, method, found.model.params, worse=found.worse)


def student(
    model: Trained, params: Weights, steps: int, sampler: Posterior, sampling: config.Sampling
) -> SamplerSpec:
    """A student distilled from ``model``: weights for ``steps`` steps without guidance.

    ``sampler`` is the step that it was trained for.
    """
    method = model.method(sampler, NoGuidance(), steps, clip_x=build.clip_x(sampling))
    return SamplerSpec(
        student_name(steps),
        f"student of {steps} {'step' if steps == 1 else 'steps'}",
        method,
        params,
        student=True,
        series=STUDENTS,
    )


def student_name(steps: int) -> str:
    """The name of a student in files, folders and metrics."""
    return f"student_{steps}"


def evaluated(
    model: Trained,
    sampling: config.Sampling,
    weight: float,
    found: Searched,
    winner: Searched | None = None,
) -> list[SamplerSpec]:
    """The base model as ``evaluate`` shows it: without, with constant and with searched guidance.

    A model without conditions has no unconditional negative, and no constant guidance. The last one
    is what prompts and clips are shown with.

    Args:
        model: the base model.
        sampling: its sampler.
        weight: of the constant guidance.
        found: the best setting with guidance that ``guidance_search`` found.
        winner: the best setting of all, if it is none of these.
    """
    base = guided(model, sampling, NoGuidance(), "base", "base, no guidance")
    shown = [base]
    if model.denoiser.network.config.condition:
        constant = ConstantGuidance(weight)
        shown.append(guided(model, sampling, constant, "constant", "base, constant guidance"))
    if winner is not None:
        shown.append(searched(winner, sampling, "winner", "base, winner of the search"))
    if found.guidance.weight != 0.0:
        title = "base, best guidance of the search"
        shown.append(searched(found, sampling, "searched", title))
    return shown


def load_students(
    folder: Path, names: Iterable[str], sampling: config.Sampling, execution: Execution
) -> list[SamplerSpec]:
    """The students that ``distill`` wrote below ``folder``.

    Raises:
        WeightsError: a folder holds no readable model.
    """
    models = [Trained.load(folder / name, execution) for name in names]
    return [
        student(one, one.params, one.config["student_steps"], one.student_sampler, sampling)
        for one in models
    ]
