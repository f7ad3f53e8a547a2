"""A small, plausible set of everything the page reads, written below a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML

from sid2core import atomic, config
from sid2core.data.load import shards
from sid2core.data.prepare.overview import contact_sheet
from sid2core.evaluation import prompts, samplers_table
from sid2core.evaluation.clips import clip_table
from sid2core.evaluation.prompts import Prompt
from sid2core.evaluation.samplers_table import MODES
from sid2core.pipeline import artifact
from tests.data import made

DVC = """\
stages:
  prepare:
    cmd: python -m stages.prepare
  train:
    cmd: python -m stages.train
  student:
    foreach: [8]
    do:
      cmd: python -m stages.distill ${item}
  report:
    cmd:
      - python -m stages.report
      - echo done
"""
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class World:
    """What is written; tests replace single fields."""

    class_names: Sequence[str] = NAMES
    shape: tuple[int, ...] = (8, 8, 1)
    train_records: int = 120
    eval_records: int = 40
    shard_records: int = 50
    columns: int = 4
    kept: int = 30
    samplers: pd.DataFrame = field(default_factory=lambda: samplers())
    curve: pd.DataFrame = field(default_factory=lambda: curve())
    trajectory: pd.DataFrame = field(default_factory=lambda: trajectory())
    prompts: Sequence[Prompt] = ()
    captions: Sequence[str] = ()
    """Of the records in turn, one each; an empty one is none."""
    given_frames: int = 0
    """Of clips."""
    example_clips: int = 5


def params() -> config.Params:
    """The project's own parameters, with the students and the page that tests count on."""
    return config.parse(raw_params())


def images(seed: int, labels: NDArray[np.integer], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Noisy blobs whose place tells the class; in clips they move."""
    if len(shape) == 4:
        frames = [images(seed + time, labels + time / 4, shape[1:]) for time in range(shape[0])]
        return np.stack(frames, axis=1)
    random = np.random.default_rng(seed)
    height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    angle = labels * 2.4
    centre_y = (0.5 + 0.25 * np.sin(angle)) * height + random.normal(0, 0.4, len(labels))
    centre_x = (0.5 + 0.25 * np.cos(angle)) * width + random.normal(0, 0.4, len(labels))
    squared = (y - centre_y[:, None, None]) ** 2 + (x - centre_x[:, None, None]) ** 2
    values = 230 * np.exp(-squared / (0.06 * height * width))
    values = values[..., None] + random.normal(0, 12, (*values.shape, channels))
    return np.clip(values, 0, 255).astype(np.uint8)


def samplers() -> pd.DataFrame:
    """Rows of ``samplers.csv``, the real-data baseline last; None is an empty cell."""
    names = [one.name for one in fields(samplers_table.SamplerRow)]
    rows = [
        ("base", "Base", 64, 0, None, None, 1000, 3.514, 2.91, 0.953, 64, 0.0281, 1.798),
        ("constant", "Constant guidance", 64, 1, None, None, 1000, 5.208, 4.77, 0.998, 128)
        + (0.0281, 3.597),
        ("interval", "Guidance in an interval", 64, 1, -3, 5, 1000, 2.871, 2.33, 0.991, 91)
        + (0.0281, 2.557),
        ("student_8", "Student, 8 steps", 8, None, None, None, 1000, 4.12, 3.63, 0.993, 8)
        + (0.0281, 0.2248),
        ("train_images", "Real training images", None, None, None, None, 1000, 1.204, 0, 0.999)
        + (None, None, None),
    ]
    table = pd.DataFrame(
        rows, columns=[one for one in names if one not in ("fd_eval_ratio", "series", *MODES)]
    )
    series = ["students" if name.startswith("student") else None for name in table.sampler]
    modes = {name: 0.9 - 0.1 * np.arange(len(table)) for name in MODES}
    return table.assign(fd_eval_ratio=table.fd_eval / 1.204, series=series, **modes)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``scores.csv`` for the samplers of ``table``, by two extractors."""
    columns = ("sampler", "extractor", "metric", "samples", "value", "low", "high", "bias", "std")
    rows = []
    for name in table.sampler:
        rows += [
            (name, "classifier", "fd_eval", 1000, 3.5, 3.25, 3.75, 0.125, None),
            (name, "classifier", "kd_train", 1000, 0.04, None, None, None, 0.01),
            (name, "classifier", "precision", 1000, 0.5, None, None, None, None),
            (name, "inception", "fid_eval", 1000, 21.5, 20.5, 22.5, 1.5, None),
        ]
    return pd.DataFrame(rows, columns=columns)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``cost.csv`` for the samplers of ``table``; the first has no time."""
    names = list(table.sampler)[:-1]
    return pd.DataFrame(
        {
            "sampler": names,
            "nfe": 64,
            "gflops_forward": 0.0281,
            "tflops_image": 0.0018,
            "seconds_image": [None] + [0.25] * (len(names) - 1),
            "batch_size": 50,
            "devices": 2,
            "device": "cpu",
        }
    )


def trajectory(*steps: int) -> pd.DataFrame:
    """Rows of ``trajectory.csv``."""
    columns = [*samplers_table.TRAJECTORY_TEXTS, *samplers_table.TRAJECTORY_NUMBERS]
    rows = [
        (curve, "fd_eval", step, 1000, value + 40 / step, value + 0.5, value + 1.5)
        for step in steps
        for curve, value in ((samplers_table.PLAIN, 2.0), (samplers_table.GUIDED, 1.0))
    ]
    return pd.DataFrame(rows, columns=columns)


def curve() -> pd.DataFrame:
    """A training curve that falls."""
    step = np.arange(50, 3001, 50)
    random = np.random.default_rng(3)
    noise = np.exp(random.normal(0, 0.08, (2, len(step))))
    loss, norm = (0.9 * (step / 50) ** -0.35, 1.4 * (step / 50) ** -0.2) * noise
    return pd.DataFrame(
        {"step": step, "loss": loss, "grad_norm": norm, "learning_rate": 1e-3 * (1 - step / 3000)}
    )


def grid() -> pd.DataFrame:
    """A guidance search over three weights and two intervals beside the whole range."""
    random = np.random.default_rng(4)
    rows = [(0.0, None, None, "whole range", 64)]
    for weight in (0.5, 1.0, 2.0):
        rows += [(weight, None, None, "whole range", 128), (weight, -3.0, 5.0, "(-3, 5)", 91)]
        rows += [(weight, -1.0, 7.0, "(-1, 7)", 90)]
    frame = pd.DataFrame(rows, columns=["weight", "logsnr_min", "logsnr_max", "interval", "nfe"])
    bowl = 2.4 + (frame.weight - 0.8) ** 2 + 0.5 * frame.logsnr_min.isna()
    bowl += random.normal(0, 0.02, len(frame))
    excess = bowl - bowl.min()
    kept = excess < 0.04
    return frame.assign(
        average="usual",
        negative="unconditional",
        sampler="ddpm logvar_fraction=0.3",
        steps=64,
        fd_train=bowl,
        fd_train_low=bowl - 0.2,
        fd_train_high=bowl + 0.2,
        excess=excess,
        excess_low=excess - 0.05,
        excess_high=excess + 0.05,
        kept=kept,
        agreement=np.minimum(0.95 + 0.03 * frame.weight, 0.999),
        samples=np.where(kept, 512, 128),
        distance="fd",
    )


def low_bit() -> dict[str, pd.DataFrame]:
    """The tables of ``analysis``: shapes like the true ones, fewer points."""

    def step(level: float) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(level - logsnr))

    logsnr = np.linspace(-10, 16, 53)
    errors = {bits: step(0) * (1 - step(1.39 * bits)) for bits in range(1, 9)}
    weight, density = 1 - step(4), step(0) * (1 - step(0))
    figure12 = {
        "sigmoid_weighted": errors[8] * (1 - step(10.7)),
        "mixture": (errors[8] + errors[5]) / 2,
    }
    weighting = {
        "weight": weight,
        "edm_monotonic": 1 - step(6),
        "density": density,
        "weighted_density": weight * density,
    }
    return {
        f"analysis/{table}": pd.concat(
            pd.DataFrame({"t": 1 - step(0), "logsnr": logsnr, key: name, value: values})
            for name, values in curves.items()
        )
        for table, key, value, curves in (
            ("figure11", "bits", "eps_error", errors),
            ("figure12", "curve", "value", figure12),
            ("weighting", "curve", "value", weighting),
        )
    }


def plan() -> dict[str, pd.DataFrame]:
    """The tables of ``plan``: two levels, the parts of a forward pass, memory against cost."""
    levels = [
        (0, "res", 64, "8x8", 4, 301_248, 0.0107),
        (1, "transformer", 128, "4x4", 4, 830_464, 0.0174),
    ]
    terms = [
        ("blocks, by B.3", 0.0281),
        ("zero borders, which B.3 alone counts", -0.0005),
        ("projections between levels", 0.0011),
        ("patches in and out", 0.0003),
        ("norms, activations and other elementwise", 0.0013),
        ("XLA's count", 0.0308),
    ]
    remat = [
        ("none", 1.375, 1),
        ("products", 0.75, 1.125),
        ("blocks", 0.5, 2),
        ("offload", 0.375, 2),
        ("full", 0.25, 3),
    ]
    level_columns = ["level", "kind", "channels", "grid", "blocks", "parameters", "gflops"]
    return {
        "plan/levels": pd.DataFrame(levels, columns=level_columns),
        "plan/terms": pd.DataFrame(terms, columns=["term", "gflops"]),
        "plan/remat": pd.DataFrame(remat, columns=["remat", "activation_mib_image", "forwards"]),
    }


def write(root: Path, world: World | None = None) -> Path:
    """Write everything below ``root`` and return it."""
    world = world or World()
    artifacts = root / artifact.ROOT
    reports = root / "reports"
    prepare = _prepare(artifacts, world)
    search_grid = grid()
    with artifact.create("guidance_search", {}, {"prepare": prepare}, root=artifacts) as draft:
        best = search_grid.sort_values("fd_train").replace({np.nan: None}).head(1)
        chosen = json.loads(best.to_json(orient="records"))[0]
        atomic.write_json(
            draft.path("best.json"),
            {
                "best": chosen,
                "guided": chosen,
                "kept": [chosen],
                "distance": "fd",
                "samples": 512,
                "images": 2048,
                "confidence": 0.9,
            },
        )
    search = artifact.load("guidance_search", root=artifacts)
    _evaluate(artifacts, world, prepare, search)
    for name, frame in {
        "evaluate/samplers": world.samplers,
        "evaluate/scores": scores(world.samplers),
        "evaluate/cost": costs(world.samplers),
        "evaluate/trajectory": world.trajectory,
        "train/curve": world.curve,
        "guidance_search/grid": search_grid,
        "distill/curve": _distill_curve(),
        **low_bit(),
        **plan(),
        **prepared(world),
    }.items():
        (reports / name).parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(reports / f"{name}.csv", index=False)
    for name, metrics in _metrics().items():
        atomic.write_json(reports / name / "metrics.json", metrics)
    labels = np.arange(60, dtype=np.int32) % len(world.class_names)
    sheet = contact_sheet(images(0, labels, world.shape[-3:]), labels, world.class_names)
    sheet.save(reports / "prepare" / "contact_sheet.png")
    (root / "dvc.yaml").write_text(DVC, encoding="utf-8")
    return root


def prepared(world: World) -> dict[str, pd.DataFrame]:
    """The tables of ``prepare``."""
    numbers = {"train": world.train_records, "eval": world.eval_records}
    classes = [
        (label, split, int((np.arange(number) * 7 % len(world.class_names) == label).sum()))
        for split, number in numbers.items()
        for label in range(len(world.class_names))
    ]
    return {
        "prepare/classes": pd.DataFrame(classes, columns=["label", "split", "images"]),
        "prepare/sizes": pd.DataFrame({"short_side": [8, 48, 300], "images": [3, 20, 7]}),
        "prepare/brightness": pd.DataFrame({"from": np.arange(0, 256, 8), "images": range(32)}),
        "prepare/rejects": pd.DataFrame(
            {"reason": ["no image by its name (.txt)", "truncated"], "images": [3, 1]}
        ),
    }


def _prepare(artifacts: Path, world: World) -> artifact.Artifact:
    with artifact.create("prepare", {}, root=artifacts) as draft:
        splits = {}
        for seed, (split, number) in enumerate(
            {"train": world.train_records, "eval": world.eval_records}.items()
        ):
            labels = np.arange(number) * 7 % len(world.class_names)
            pixels = images(seed, labels, world.shape)
            records = [
                replace(
                    made.record(f"{split}-{row:04d}", picture, int(label)),
                    captions=_captions(world, row),
                )
                for row, (picture, label) in enumerate(zip(pixels, labels, strict=True))
            ]
            names = made.write(
                draft.folder,
                shards.Layout(world.shape, tuple(world.class_names), split, bool(world.captions)),
                records,
                shard_records=world.shard_records,
                row_group_records=16,
            )
            counts = np.bincount(labels, minlength=len(world.class_names)).tolist()
            splits[split] = {"records": number, "per_class": counts, "shards": names}
        draft.metadata.update(
            shape=list(world.shape),
            class_names=list(world.class_names),
            splits=splits,
            attribution="Drawn by A & B",
            captioned=bool(world.captions),
        )
    return artifact.load("prepare", root=artifacts)


def _captions(world: World, row: int) -> tuple[str, ...]:
    caption = world.captions[row % len(world.captions)] if world.captions else ""
    return (caption,) if caption else ()


def _evaluate(
    artifacts: Path, world: World, prepare: artifact.Artifact, search: artifact.Artifact
) -> None:
    table = world.samplers[:-1]
    own = table.series.isna() | (table.series == samplers_table.STUDENTS)
    names = table.sampler[own].tolist()
    classes = len(world.class_names)
    made = {"prepare": prepare, "guidance_search": search}
    with artifact.create("evaluate", {}, made, root=artifacts) as draft:
        grids = {}
        for seed, name in enumerate(names, 10):
            labels = np.arange(world.kept) % classes
            np.savez(
                draft.path(f"{name}.npz"),
                images=images(seed, labels, world.shape),
                labels=labels.astype(np.int32),
            )
            rows = np.repeat(np.arange(classes), world.columns)
            cells = images(seed + 100, rows, world.shape)
            grids[name] = cells.reshape(classes, world.columns, *world.shape)
        np.savez(draft.path("grids.npz"), **grids)
        draft.metadata["samplers"] = names
        if world.captions:
            draft.metadata["grid"] = {
                "records": list(range(classes)),
                "captions": list(world.captions[:classes]),
            }
        if not own.all():
            draft.metadata["named"] = table.sampler[~own].tolist()
        if world.prompts:
            rows = np.repeat(np.arange(len(world.prompts)), 3)
            shape = (len(world.prompts), 3, *world.shape)
            np.savez(
                draft.path(prompts.FILE),
                **{name: images(20, rows, world.shape).reshape(shape) for name in names[-2:]},
            )
            draft.metadata["prompts"] = [asdict(one) for one in world.prompts]
        if len(world.shape) == 4:
            _clips(draft, world, names[-2:])


def _clips(draft: artifact.Draft, world: World, names: Sequence[str]) -> None:
    labels = np.arange(world.example_clips, dtype=np.int32) % len(world.class_names)
    real = images(30, labels, world.shape)
    samples = {
        name: images(40 + seed, labels.repeat(3), world.shape).reshape(-1, 3, *world.shape)
        for seed, name in enumerate(names)
    }
    about = {"real": real, "labels": labels, "records": labels, "given_frames": world.given_frames}
    np.savez(draft.path(clip_table.CLIPS), **about, **samples)
    draft.metadata["clips"] = names
    if world.given_frames:
        rows = [
            (name, choice, frame + 1, 20.0 - frame, 7, 4)
            for name in (*names, samplers_table.COPY)
            for choice in (clip_table.MEAN, clip_table.BEST)[
                : 1 if name == samplers_table.COPY else 2
            ]
            for frame in range(world.given_frames, world.shape[0])
        ]
        table = pd.DataFrame(rows, columns=[*clip_table.TEXTS, *clip_table.NUMBERS])
        table.to_csv(draft.path(clip_table.ERROR), index=False)
        grid = {"records": list(range(len(world.class_names)))}
        draft.metadata["grid"] = grid


def _distill_curve() -> pd.DataFrame:
    random = np.random.default_rng(5)
    iteration = np.arange(25, 1501, 25)
    return pd.DataFrame(
        {
            "student": "student_8",
            "iteration": iteration,
            "loss_auxiliary": 0.4 + random.normal(0, 0.02, len(iteration)),
            "loss_student": random.normal(0, 0.05, len(iteration)),
            "grad_norm_student": np.abs(random.normal(0.5, 0.1, len(iteration))),
        }
    )


def _metrics() -> dict[str, dict[str, object]]:
    return {
        "train": {
            "loss": 0.2174,
            "steps": 3000,
            "parameters": 1_243_777,
            "gflops_forward": 0.0281,
            "training_pflops": 0.03237,
        },
        "distill": {"teacher": {"fd_train_512": 2.41}, "student_8": {"fd_train_512": 3.77}},
        "prepare": {"rejected_images": 4},
        "reference": {"accuracy_eval_270": 0.9815, "steps": 600},
        "analysis": {
            "figure12_gap_max": 0.31234,
            "figure12_gap_max_logsnr": 9.5,
            "figure12_gap_mean": 0.04321,
        },
        "plan": {
            "parameters": 1_243_777,
            "gflops_forward": 0.0281,
            "gflops_forward_xla": 0.0308,
            "training_zettaflops": 1.6186e-8,
            "state_mib": 18.979,
            "gradient_mib": 4.7446,
        },
    }


def with_named(*names: str) -> World:
    """The usual world with further samplers of one series, of which no samples are kept."""
    *own, real = samplers().to_dict("records")
    further = [own[0] | {"sampler": name, "title": name, "series": "DDIM"} for name in names]
    return replace(World(), samplers=pd.DataFrame([*own, *further, real]))


def with_sampler(name: str, **values: object) -> World:
    """The usual world with some cells of one sampler's row changed."""
    table = samplers().astype(object)
    for column, value in values.items():
        table.loc[table.sampler == name, column] = value
    return replace(World(), samplers=table)


def raw_params() -> dict[str, object]:
    """The parameters as a mapping, to change and parse again."""
    path = Path(__file__).parents[2] / "params.yaml"
    raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    raw["distill"]["steps"] = [8]
    raw["report"] = {"title": "Simpler Diffusion", "neighbours": 8}
    return raw
