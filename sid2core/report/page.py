"""The page: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sid2core.conditioning import ConditionSpec
from sid2core.evaluation import samplers_table
from sid2core.report import (
    clips,
    comparison,
    formatting,
    images,
    low_bit,
    plan,
    prepared,
    prompts,
    provenance,
    scores,
    search,
    students,
    studies,
)
from sid2core.report.charts import figures
from sid2core.report.memorisation import Check, check
from sid2core.report.read import measured
from sid2core.report.read.inputs import Inputs, Sampler

TEMPLATES = Path(__file__).parent / "templates"
_CAPTION = 80
"""Characters of a caption beside its row or below its image."""
_JUDGES = {"alternating": "auxiliary", "parameter_space": "teacher"}
"""Whose loss on the student's images says how the student must change, by ``distill.form``."""
MOST_ROWS = 12
"""Maximum number of classes in the grids, evenly spaced, so that the page stays small."""


def build(inputs: Inputs) -> str:
    """The whole page as HTML; the same inputs give the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        name: getattr(formatting, name)
        for name in (
            "count",
            "steps",
            "significant",
            "percent",
            "flops",
            "memory",
            "fixed",
            "plain",
        )
    }
    return environment.get_template("page.html.j2").render(context(inputs))


def context(inputs: Inputs) -> dict[str, Any]:
    """The values of the template, by section of the page."""
    best = scores.lowest([s for s in inputs.samplers if not s.student])
    found, names = _memorisation(inputs), _conditions(inputs)
    train = inputs.params.train
    return {
        "css": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "title": inputs.params.report.title,
        "what": inputs.what,
        "data": _data(inputs),
        "best": best,
        "warning": samplers_table.warning(inputs.samplers, inputs.baseline),
        "students": [s for s in inputs.samplers if s.student],
        "baseline": inputs.baseline,
        "training": inputs.training,
        "extractor": scores.accuracies(inputs.reference),
        "grids": _grids(inputs, names),
        "side_by_side": students.view(inputs, names, _rows(names)),
        "prompts": prompts.view(inputs),
        "clips": clips.view(inputs),
        "table": scores.sampler_table(
            inputs.samplers, [*inputs.others, inputs.baseline], inputs.what
        ),
        "quality": Markup(
            figures.quality(inputs.samplers, inputs.baseline, measured.intervals(inputs.measured))
        ),
        "measured": _measured(inputs),
        "prepared": prepared.view(inputs.prepared, inputs.what, classes=bool(inputs.class_names)),
        "videos": prepared.videos(inputs.prepare.metadata),
        "captions": prepared.captions(inputs.prepare.metadata, inputs.train),
        "plan": plan.view(inputs.plan, train.batch_size, train.optimiser.name),
        "curves": _curves(inputs),
        "low_bit": low_bit.view(inputs),
        "search": search.view(inputs.search),
        "neighbours": None if found is None else _neighbours(inputs, found),
        "distilled": scores.distilled_table(inputs.distill),
        "studies": studies.view(inputs.studies),
        "comparison": comparison.view(inputs),
        "provenance": provenance.collect(inputs),
    }


def _measured(inputs: Inputs) -> dict[str, Any]:
    rows = (*inputs.samplers, *inputs.others, inputs.baseline)
    titles = {row.name: row.title for row in rows}
    return measured.view(inputs.measured, titles, inputs.what)


def _data(inputs: Inputs) -> dict[str, Any]:
    *frames, height, width, channels = inputs.shape
    stored = list(inputs.prepare.metadata["shape"])
    return {
        "name": inputs.params.data.source.name,
        "frames": frames[0] if frames else None,
        "stored_frames": stored[0] if stored[:-3] not in ([], frames) else None,
        "given": 0 if inputs.clips is None else inputs.clips.given,
        "shape": f"{height} × {width}",
        "channels": "grey" if channels == 1 else "colour",
        "condition": _condition(inputs),
        "train": len(inputs.train),
        "eval": len(inputs.held_out),
        "attribution": inputs.prepare.metadata.get("attribution"),
    }


def _condition(inputs: Inputs) -> str:
    """How many classes the data have, else how many captions; empty without both."""
    captions = inputs.prepare.metadata.get("captions")
    if classes := len(inputs.class_names):
        return f"in {classes} {'class' if classes == 1 else 'classes'}"
    if captions:
        return f"with captions ({formatting.count(captions['captions'])} in both splits)"
    return ""


def _by_class(inputs: Inputs) -> bool:
    """Whether the rows of grids are classes."""
    spec = ConditionSpec.of_manifest(inputs.prepare.metadata)
    classes = len(spec.names) <= 1 and spec.rows == len(inputs.class_names)
    return inputs.evaluate.metadata.get("grid") is None and classes


def _conditions(inputs: Inputs) -> list[str]:
    """The names of the rows of grids."""
    spec, what = ConditionSpec.of_manifest(inputs.prepare.metadata), inputs.what
    stored = inputs.evaluate.metadata.get("grid")
    if _by_class(inputs):
        return [*inputs.class_names]
    if stored is None:
        return [f"{what} {row}" for row in range(spec.rows)]
    if "captions" in stored:
        return [prompts.shortened(one, _CAPTION) for one in stored["captions"]]
    return [f"{what} {row}" for row in stored["records"]]


def _rows(names: Sequence[str]) -> NDArray[np.int64]:
    """The rows that are shown."""
    places = np.linspace(0, len(names) - 1, min(MOST_ROWS, len(names)))
    return np.unique(places.astype(np.int64))


def _grids(inputs: Inputs, names: Sequence[str]) -> dict[str, Any]:
    """One grid per sampler and one of real images, all with the same rows.

    A row is a class, or a record of the eval split whose caption or first frames the samples have.
    Where samples are conditioned on something else, row i has the condition of the training image
    i. The real image is shown beside it.
    """
    what, by_class = inputs.what, _by_class(inputs)
    stored = inputs.evaluate.metadata.get("grid")
    rows = _rows(names)
    shown = [names[row] for row in rows]
    columns = next(iter(inputs.grids.values())).shape[1]
    height, width = inputs.shape[-3:-1]
    size = images.shown_size(height, width)
    items = [
        {
            "id": sampler.name,
            "title": sampler.title,
            "note": _grid_note(sampler),
            "alt": _grid_alt(f"samples of {sampler.title}", shown, columns),
            "uri": images.grid_uri(inputs.grids[sampler.name][rows]),
        }
        for sampler in inputs.shown
    ]
    if by_class:
        held_out = inputs.held_out
        first, present = images.first_of_classes(held_out.labels, rows, columns)
        cells = held_out.take(first.ravel()).reshape(*first.shape, *held_out.shape)
    else:
        records = rows if stored is None else np.array(stored["records"])[rows]
        data = inputs.train if stored is None else inputs.held_out
        cells, present = data.take(records)[:, None], np.ones((len(rows), 1), bool)
    of = "training" if stored is None else "held-out"
    real = {
        "id": "real",
        "title": f"Real {what}s",
        "note": "the first of each class in the eval split"
        if by_class
        else f"the {of} {what} whose condition the row has",
        "alt": _grid_alt(f"real {what}s", shown, columns),
        "uri": images.grid_uri(cells, present),
    }
    return {
        "items": [*items, real],
        "by_class": by_class,
        "rows": shown,
        "classes": len(names),
        "columns": columns,
        "reduced": f"{size[0]} × {size[1]}" if size != (height, width) else None,
    }


def _grid_note(sampler: Sampler) -> str:
    parts = [formatting.steps(sampler.steps), scores.guidance_of(sampler)]
    return ", ".join([*parts, f"fd eval {formatting.significant(sampler.fd_eval)}"])


def _grid_alt(what: str, rows: list[str], columns: int) -> str:
    return f"Grid of {what}: one row for each of {', '.join(rows)}, {columns} images per row"


def _curves(inputs: Inputs) -> dict[str, Any]:
    frame, trajectory = inputs.curve, inputs.trajectory
    dropped = int((~np.isfinite(frame[["loss", "grad_norm"]])).any(axis=1).sum())
    train = [
        figures.curve(frame, "step", y, {"x": "step", "y": label, "title": f"{label} over steps"})
        for y, label in (("loss", "training loss"), ("grad_norm", "gradient norm"))
    ]
    distill, form = [], inputs.params.distill.form.name
    if inputs.distill_curve is not None:
        labels = {
            "loss_auxiliary": _JUDGES.get(form, "judge") + " loss",
            "loss_student": "student loss",
            "grad_norm_student": "student gradient norm",
        }
        for y, label in labels.items():
            words = {"x": "iteration", "y": label, "title": f"{label} over iterations"}
            frame = inputs.distill_curve
            distill.append(figures.curve(frame, "iteration", y, words, group="student"))
    return {
        "train": [Markup(svg) for svg in train],
        "distill": [Markup(svg) for svg in distill],
        "judge": _JUDGES.get(form, "judge"),
        "trajectory": None if trajectory is None else Markup(figures.trajectory(trajectory)),
        "trajectory_samples": None if trajectory is None else int(trajectory["samples"].max()),
        "dropped": dropped,
        "window": formatting.plain(100 * figures.SMOOTHING) + "%",
        "points": len(inputs.curve),
    }


def _memorisation(inputs: Inputs) -> Check | None:
    """The check of the best guided sampler, or of the best one if none is guided."""
    base = [s for s in inputs.shown if not s.student]
    chosen = scores.lowest([s for s in base if s.guidance_weight > 0]) or scores.lowest(base)
    return None if chosen is None else check(inputs, chosen)


def _neighbours(inputs: Inputs, found: Check) -> dict[str, Any]:
    train = inputs.train
    captions = train.captions if train.captioned and not inputs.class_names else None

    def label(index: int) -> str:
        """The class of a training image, else its first caption, if it has one."""
        if captions is None:
            return inputs.class_of(int(train.labels[index]))
        return prompts.shortened(captions[index][0], _CAPTION) if captions[index] else ""

    def near(index: int, distance: float) -> Mapping[str, Any]:
        return {
            "uri": images.data_uri(train.take([index])[0]),
            "label": label(index),
            "distance": formatting.significant(distance),
        }

    def card(row: int) -> Mapping[str, Any]:
        nearest = found.nearest.index[row].tolist(), found.nearest.distance[row].tolist()
        return {
            "label": inputs.class_of(int(found.labels[row])),
            "uri": images.data_uri(found.images[row]),
            "near": [*map(near, *nearest)],
        }

    samples, held_out = found.nearest.distance[:, 0], found.held_out
    threshold = float(np.quantile(held_out, 0.05))
    return {
        "sampler": found.sampler,
        "labels": "classes" if inputs.class_names else "captions" if captions else None,
        "cards": [card(row) for row in found.shown],
        "closest": card(found.closest),
        "samples": len(samples),
        "held_out": len(held_out),
        "median_samples": float(np.median(samples)),
        "median_held_out": float(np.median(held_out)),
        "ratio": _ratio(float(np.median(samples)), float(np.median(held_out))),
        "below": float(np.mean(samples < threshold)),
        "threshold": threshold,
        "copies": int(np.sum(samples == 0)),
        "searched": found.searched,
        "train": len(train),
        "reduced": found.reduced,
        "figure": Markup(figures.distances(samples, held_out, inputs.what)),
    }


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None
