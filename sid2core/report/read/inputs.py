"""All inputs of the page, read and checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sid2core.conditioning import UNLABELLED, ConditionSpec
from sid2core.config import Params, clip_shape
from sid2core.data.load.dataset import Dataset
from sid2core.evaluation import samplers_table
from sid2core.evaluation.samplers_table import BASELINE, SamplerRow
from sid2core.pipeline import artifact
from sid2core.pipeline.artifact import Artifact, ArtifactError
from sid2core.report.images import Pixels
from sid2core.report.read import (
    clip_files,
    files,
    measured,
    one_run,
    plan_files,
    prepared_files,
    prompt_files,
    search_files,
    study_files,
)
from sid2core.report.read.clip_files import Clips
from sid2core.report.read.files import InputError
from sid2core.report.read.measured import Measured
from sid2core.report.read.plan_files import Plan
from sid2core.report.read.prepared_files import Prepared
from sid2core.report.read.prompt_files import Prompts
from sid2core.report.read.search_files import Search

_FIGURE12 = ("sigmoid_weighted", "mixture")
_WEIGHTING = ("weight", "edm_monotonic", "density", "weighted_density")
SUB_BAND = "weight_"
"""Prefix of further curves that some losses have: the weights of other sub-bands."""
_GAPS = ("figure12_gap_max", "figure12_gap_max_logsnr", "figure12_gap_mean")


@dataclass(frozen=True)
class Sampler(SamplerRow):
    """One row of ``samplers.csv``, and whether it is a distilled student."""

    student: bool = False

    @property
    def name(self) -> str:
        """Its name in files and metrics."""
        return self.sampler


@dataclass(frozen=True)
class LowBit:
    """The low-bit view as ``analysis`` computed it: the tables of its figures, and the gaps."""

    figure11: pd.DataFrame
    figure12: pd.DataFrame
    weighting: pd.DataFrame
    gaps: Mapping[str, float]


@dataclass(frozen=True)
class Inputs:
    """All inputs; without distillation ``distill_curve`` is None and ``distill`` is empty."""

    params: Params
    prepare: Artifact
    guidance_search: Artifact
    evaluate: Artifact
    train: Dataset
    held_out: Dataset
    """The eval split."""
    shape: tuple[int, ...]
    """Of one sample: an image [h, w, c] or a clip [f, h, w, c]."""
    samplers: tuple[Sampler, ...]
    baseline: Sampler
    others: tuple[Sampler, ...]
    """Further baselines, which clips with given frames have."""
    measured: Measured
    grids: Mapping[str, Pixels]
    """Of the samplers whose samples are kept: those of ``eval.samplers`` have tables only."""
    prompts: Prompts | None
    """The grid of prompts, if there is one."""
    clips: Clips | None
    """Example clips; None for images."""
    curve: pd.DataFrame
    trajectory: pd.DataFrame | None
    """The distances of the snapshots; None where there are none."""
    training: Mapping[str, float]
    search: Search
    distill_curve: pd.DataFrame | None
    distill: Mapping[str, Mapping[str, float]]
    reference: Mapping[str, float]
    low_bit: LowBit
    plan: Plan
    prepared: Prepared
    commands: Mapping[str, str]
    studies: Sequence[study_files.StudyResult]

    @property
    def what(self) -> str:
        """What a sample is: ``image`` or ``clip``."""
        return "image" if len(self.shape) == 3 else "clip"

    @property
    def shown(self) -> Sequence[Sampler]:
        """The samplers whose samples are kept."""
        return [one for one in self.samplers if one.name in self.grids]

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, by label; empty for data without classes."""
        names = self.train.class_names
        return () if names == UNLABELLED else names

    def class_of(self, label: int) -> str:
        """The name of a class; empty for data without classes."""
        return self.class_names[label] if self.class_names else ""


def read(params: Params, root: Path) -> Inputs:
    """Read all inputs from the project's root.

    Raises:
        InputError: a file is missing, malformed or of another run; the message names it and its
            command.
        ArtifactError: an artifact folder is missing, damaged, or was made from other inputs.
        DataError: a shard of the prepared images is malformed.
    """
    one_run.check(root)
    prepare = artifact.load("prepare", root=root / artifact.ROOT)
    guidance_search = artifact.load("guidance_search", root=root / artifact.ROOT)
    evaluate = artifact.load("evaluate", root=root / artifact.ROOT)
    frames = params.loader.clip_frames
    shape = clip_shape(_shape(prepare), frames)
    for made in (guidance_search, evaluate):
        _check_origin(made, [prepare, guidance_search])
    reports = root / "reports"
    samplers, others, baseline = _samplers(reports / "evaluate" / "samplers.csv", params, evaluate)
    distill_curve, distill = _distill(reports / "distill")
    return Inputs(
        params=params,
        prepare=prepare,
        guidance_search=guidance_search,
        evaluate=evaluate,
        train=Dataset.open(prepare, "train", clip_frames=frames),
        held_out=Dataset.open(prepare, "eval", clip_frames=frames),
        shape=shape,
        samplers=samplers,
        baseline=baseline,
        others=others,
        measured=measured.read(reports / "evaluate"),
        grids=_grids(evaluate, evaluate.metadata["samplers"], prepare, shape),
        prompts=prompt_files.read(evaluate, shape),
        clips=clip_files.read(evaluate, shape),
        curve=files.table(reports / "train" / "curve.csv", "train", ("step", "loss", "grad_norm")),
        trajectory=_trajectory(reports / "evaluate" / samplers_table.TRAJECTORY),
        training=files.numbers(
            reports / "train" / "metrics.json",
            "train",
            ("loss", "steps", "parameters", "gflops_forward", "training_pflops"),
        ),
        search=search_files.read(reports / "guidance_search" / "grid.csv", guidance_search),
        distill_curve=distill_curve,
        distill=distill,
        reference=files.numbers(reports / "reference" / "metrics.json", "reference"),
        low_bit=_low_bit(reports / "analysis"),
        plan=plan_files.read(reports / "plan"),
        prepared=prepared_files.read(reports / "prepare"),
        commands=files.commands(root / "dvc.yaml"),
        studies=study_files.read(root),
    )


def samples_of(inputs: Inputs, name: str) -> tuple[Pixels, NDArray[np.int32]]:
    """The kept (images ``[n, h, w, c]`` or clips, labels ``[n]``) of the sampler ``name``."""
    path = inputs.evaluate.path(f"{name}.npz")
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"images", "labels"} - set(arrays)
        if missing:
            raise files.malformed(path, "evaluate", f"no array {sorted(missing)}")
        images, labels = arrays["images"], arrays["labels"]
    shape = inputs.shape
    if images.dtype != np.uint8 or images.shape != (len(labels), *shape):
        found = f"images are {images.dtype}{list(images.shape)} for {len(labels)} labels"
        expected = f"expected uint8 [n, {', '.join(map(str, shape))}]"
        raise files.malformed(path, "evaluate", f"{found}; {expected}")
    return images, labels


def _shape(prepare: Artifact) -> tuple[int, ...]:
    """The shape of what is stored."""
    shape = prepare.metadata["shape"]
    if len(shape) not in (3, 4) or shape[-1] not in (1, 3):
        msg = (
            f"{prepare.folder} holds records of shape {shape}; the page shows images [height, "
            "width, 1 or 3 channels] and clips [frames, height, width, 1 or 3 channels]; prepare "
            "a data set of these"
        )
        raise InputError(msg)
    return tuple(shape)


def _check_origin(made: Artifact, origins: Sequence[Artifact]) -> None:
    for origin in origins:
        named = made.manifest["inputs"].get(origin.stage, origin.digest)
        if named != origin.digest:
            msg = (
                f"{made.folder} was made from {origin.stage} {named[:12]}, but {origin.folder} is "
                f"{origin.digest[:12]}; run `dvc repro {made.stage}`"
            )
            raise ArtifactError(msg)


def _samplers(
    path: Path, params: Params, evaluate: Artifact
) -> tuple[tuple[Sampler, ...], tuple[Sampler, ...], Sampler]:
    table = files.table(path, "evaluate", samplers_table.NUMBERS, samplers_table.TEXTS)
    students = {f"student_{steps}" for steps in params.distill.steps}
    rows = [_sampler(row, students) for row in table.to_dict("records")]
    found = [row.name for row in rows]
    samplers = [*evaluate.metadata["samplers"], *evaluate.metadata.get("named", ())]
    expected = [*samplers, *evaluate.metadata.get("baselines", ()), BASELINE]
    if found != expected:
        raise files.malformed(path, "evaluate", f"rows are {found}, expected {expected}")
    count = len(samplers)
    return tuple(rows[:count]), tuple(rows[count:-1]), rows[-1]


def _sampler(row: Mapping[Any, Any], students: set[str]) -> Sampler:
    texts = {name: str(row[name]) for name in samplers_table.TEXTS}
    numbers = {name: float(row[name]) for name in samplers_table.NUMBERS}
    values: dict[str, Any] = texts | numbers
    return Sampler(**values, student=texts["sampler"] in students)


def _grids(
    evaluate: Artifact, names: Sequence[str], prepare: Artifact, shape: tuple[int, ...]
) -> dict[str, Pixels]:
    path = evaluate.path("grids.npz")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in names if name not in arrays]
        if missing:
            raise files.malformed(path, "evaluate", f"no grid of {missing}")
        grids = {name: arrays[name] for name in names}
    stored = evaluate.metadata.get("grid")
    spec = ConditionSpec.of_manifest(prepare.metadata)
    rows = spec.rows if stored is None else len(stored["records"])
    for name, grid in grids.items():
        fits = grid.shape[:1] == (rows,) and grid.shape[2:] == shape
        if grid.dtype != np.uint8 or not fits:
            found = f"{name} is {grid.dtype}{list(grid.shape)}"
            expected = f"uint8 [{rows}, columns, {', '.join(map(str, shape))}]"
            raise files.malformed(path, "evaluate", f"{found}, expected {expected}")
    return grids


def _trajectory(path: Path) -> pd.DataFrame | None:
    table = files.table(
        path,
        "evaluate",
        samplers_table.TRAJECTORY_NUMBERS,
        samplers_table.TRAJECTORY_TEXTS,
        may_be_empty=True,
    )
    return None if table.empty else table


def _distill(folder: Path) -> tuple[pd.DataFrame | None, dict[str, dict[str, float]]]:
    if not folder.exists():
        return None, {}
    numbers = ("iteration", "loss_auxiliary", "loss_student", "grad_norm_student")
    curve = files.table(folder / "curve.csv", "distill", numbers, ("student",))
    path = folder / "metrics.json"
    raw = files.mapping(path, "distill")
    if not all(isinstance(value, dict) for value in raw.values()):
        raise files.malformed(path, "distill", "expected one mapping per model")
    return curve, {
        name: {key: files.number(value) for key, value in metrics.items() if files.is_number(value)}
        for name, metrics in raw.items()
    }


def _low_bit(folder: Path) -> LowBit:
    return LowBit(
        figure11=_levels(folder / "figure11.csv", ("logsnr", "bits", "eps_error")),
        figure12=_levels(folder / "figure12.csv", ("logsnr", "value"), _FIGURE12),
        weighting=_levels(folder / "weighting.csv", ("logsnr", "value"), _WEIGHTING, SUB_BAND),
        gaps=files.numbers(folder / "metrics.json", "analysis", _GAPS),
    )


def _levels(
    path: Path, numbers: Sequence[str], curves: Sequence[str] = (), further: str | None = None
) -> pd.DataFrame:
    """A table over log-SNR whose numbers are finite, with exactly these curves if any are named.

    Further curves are allowed if their names begin with ``further``.
    """
    table = files.table(path, "analysis", numbers, ("curve",) if curves else ())
    for name in numbers:
        if not np.isfinite(table[name]).all():
            raise files.malformed(path, "analysis", f"column {name} has rows without a number")
    if curves:
        found = set(table["curve"])
        known = {name for name in found if further and str(name).startswith(further)}
        if found - known != set(curves):
            reason = f"curves are {sorted(found)}, expected {sorted(curves)}"
            raise files.malformed(path, "analysis", reason)
    return table
