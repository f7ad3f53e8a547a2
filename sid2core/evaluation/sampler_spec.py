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
from sid2core.inference.generator import STUDENT_SAMPLER, Method
from sid2core.inference.model import Trained
from sid2core.models.execution import Execution
from sid2core.typing import Array

Weights = Mapping[str, Array | NDArray[Any]]
"""Flat name → array, on devices or on the host."""


@dataclass(frozen=True, eq=False)
class SamplerSpec:
    """A sampler: its name in files and metrics, its title on the page, its method and weights.

    ``student`` says whether it is a distilled model.
    """

    name: str
    title: str
    method: Method
    params: Weights
    student: bool = False


def guided(
    model: Trained, sampling: config.Sampling, guidance: Guidance, name: str, title: str = ""
) -> SamplerSpec:
    """The base model with the sampler of ``sampling`` and a guidance."""
    sampler, clip_x = build.sampler(sampling), build.clip_x(sampling)
    method = model.method(sampler, guidance, sampling.steps, clip_x=clip_x)
    return SamplerSpec(name, title, method, model.params)


def student(model: Trained, params: Weights, steps: int, sampling: config.Sampling) -> SamplerSpec:
    """A student distilled from ``model``: weights for ``steps`` steps without guidance."""
    method = model.method(STUDENT_SAMPLER, NoGuidance(), steps, clip_x=build.clip_x(sampling))
    return SamplerSpec(
        student_name(steps), f"student of {steps} steps", method, params, student=True
    )


def student_name(steps: int) -> str:
    """The name of a student in files, folders and metrics."""
    return f"student_{steps}"


def evaluated(
    model: Trained, sampling: config.Sampling, weight: float, searched: Guidance
) -> list[SamplerSpec]:
    """The base model as ``evaluate`` shows it: without, with constant and with searched guidance.

    An unconditional model has nothing to be guided away from; it is shown without guidance only.

    Args:
        model: the base model.
        sampling: its sampler.
        weight: of the constant guidance.
        searched: the guidance that ``guidance_search`` found.
    """
    base = guided(model, sampling, NoGuidance(), "base", "base, no guidance")
    if not model.denoiser.network.config.condition:
        return [base]
    constant = ConstantGuidance(weight)
    return [
        base,
        guided(model, sampling, constant, "constant", "base, constant guidance"),
        guided(model, sampling, searched, "searched", "base, guidance found by the search"),
    ]


def load_students(
    folder: Path, names: Iterable[str], sampling: config.Sampling, execution: Execution
) -> list[SamplerSpec]:
    """The students that ``distill`` wrote below ``folder``.

    Raises:
        WeightsError: a folder holds no readable model.
    """
    models = [Trained.load(folder / name, execution) for name in names]
    return [student(one, one.params, one.config["student_steps"], sampling) for one in models]
