"""The model card of an export: ``README.md`` with front matter."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML

from sid2core.exporting.about import About, Score
from sid2core.exporting.check import TOLERANCE, Difference
from sid2core.exporting.exported import Exported
from sid2core.exporting.formats import Format
from sid2core.models import cost

_PARTS = ("_seen", "_unseen")
"""Endings of metrics of a part of the samples, which the front matter leaves out."""


def text(exported: Exported, form: Format, about: About, differences: Sequence[Difference]) -> str:
    """The card, Markdown with front matter."""
    sections = [
        f"---\n{_front(exported, form, about)}---",
        f"# A SiD2 model of {about.source}" if about.source != "unknown" else "# A SiD2 model",
        _introduction(exported, form),
        f"## Draw\n\n{form.use(exported)}",
        f"## Data\n\n{_data(exported, about)}",
        f"## Scores\n\n{_scores(about)}",
        f"## Costs\n\n{_costs(exported)}",
        f"## Limits\n\n{_limits(exported, differences)}",
    ]
    return "\n\n".join(part.strip() for part in sections) + "\n"


def _front(exported: Exported, form: Format, about: About) -> str:
    found: dict[str, Any] = {"license": about.license, "library_name": form.LIBRARY}
    tag = _tag(exported)
    if tag:
        found["pipeline_tag"] = tag
    found["tags"] = ["sid2", "pixel-space-diffusion"]
    if about.scores:
        result = {
            "task": {"type": tag or "other"},
            "dataset": {"name": about.source, "type": about.source},
            "metrics": [
                {"type": one.metric, "value": one.value, "name": _named(one)}
                for one in about.scores
                if not one.metric.endswith(_PARTS)
            ],
        }
        found["model-index"] = [{"name": f"sid2-{about.source}", "results": [result]}]
    stream, yaml = io.StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.dump(found, stream)
    return stream.getvalue()


def _tag(exported: Exported) -> str | None:
    """The task, as the hubs of models name it."""
    condition, video = exported.trained.condition, exported.trained.shape.is_video
    if condition.text is not None:
        return "text-to-video" if video else "text-to-image"
    if video:
        return None if condition.given is None else "image-to-video"
    return "unconditional-image-generation"


def _named(score: Score) -> str:
    """Metric, sampler, number of samples and interval."""
    name = f"{score.metric} ({score.sampler}), N = {score.samples:,}"
    if score.interval is None:
        return name
    return f"{name}, 90 % interval {score.interval[0]:.4g} to {score.interval[1]:.4g}"


def _introduction(exported: Exported, form: Format) -> str:
    trained = exported.trained
    what = "clips [f, h, w, c]" if trained.shape.is_video else "images [h, w, c]"
    size = " × ".join(map(str, trained.shape.image_shape))
    steps = trained.student_steps
    kind = "A pixel-space diffusion model" if steps is None else f"A student of {steps} steps"
    return (
        f"{kind} after *Simpler Diffusion (SiD2)* ([arXiv 2410.19324](https://arxiv.org/abs/"
        f"2410.19324)). It draws {what} of {size}. It is conditioned on: "
        f"{', '.join(trained.condition.names) or 'nothing'}. This folder is {form.SUMMARY}."
    )


def _data(exported: Exported, about: About) -> str:
    lines = [f"Source: `{about.source}`."]
    if about.images:
        counts = ", ".join(f"{count:,} ({split})" for split, count in about.images.items())
        lines.append(f"Examples: {counts}.")
    if exported.class_names:
        lines.append(f"Classes: {', '.join(exported.class_names)}.")
    if about.attribution:
        lines.append(f"Attribution, which copies of this model must keep: {about.attribution}.")
    return "\n".join(lines)


def _scores(about: About) -> str:
    if not about.scores:
        return "None: the model was exported without the evaluation of its run."
    settings = list(dict.fromkeys(one.sampler for one in about.scores))
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for one in about.scores:
        interval = "" if one.interval is None else " ({:.3g} to {:.3g})".format(*one.interval)
        row = rows.setdefault((one.metric, one.samples), {})
        row[one.sampler] = f"{one.value:.4g}{interval}"
    lines = [f"| metric | N | {' | '.join(settings)} |", "|---" * (2 + len(settings)) + "|"]
    for (metric, samples), row in rows.items():
        values = " | ".join(row.get(setting, "") for setting in settings)
        lines.append(f"| `{metric}` | {samples:,} | {values} |")
    note = "In brackets: 90 % intervals of bias-corrected distances; a value may lie above its own."
    return "\n".join([*lines, "", note])


def _costs(exported: Exported) -> str:
    shapes = exported.trained.denoiser.network.shapes()
    parameters = sum(math.prod(one.shape) for one in shapes.values())
    method, request = exported.method, exported.request
    forward = cost.forward_gflops(exported.trained.shape)
    return (
        f"{parameters:,} parameters. An evaluation of the network takes {forward:.4g} GFLOPs. "
        f"With the settings of this export ({request.steps} steps, guidance {request.guidance:g}) "
        f"an example takes {method.nfe} evaluations and {method.gflops_image:.4g} GFLOPs. "
        "FLOPs are multiply-adds."
    )


def _limits(exported: Exported, differences: Sequence[Difference]) -> str:
    shares = ", ".join(f"{case} {share:.1e}" for case, share in differences)
    size = " × ".join(map(str, exported.trained.shape.image_shape))
    return (
        f"The model draws only what its data contain, and only in the size {size}. Weights and "
        "activations are float32. It was not examined for bias or for copies of training "
        "examples beyond the scores above. Largest difference from the original program, as a "
        f"share of its largest value: {shares} (at most {TOLERANCE:.0e} is accepted)."
    )
