"""A plan as tables of text, and as one JSON object for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sid2core.plan.hardware import GIB
from sid2core.plan.plan import Fit, Plan, cures, distill_cures

MIB = 2**20


def as_json(plan: Plan) -> dict[str, Any]:
    """The whole plan; names contain the unit."""
    price = plan.price
    return {
        "shape": list(price.shape),
        "given_frames": price.given_frames,
        "classes": price.classes,
        "parameters": price.parameters,
        "gflops": price.gflops,
        "gflops_xla": price.gflops_xla,
        "levels": [asdict(one) for one in price.levels],
        "terms": [asdict(one) for one in price.terms],
        "training_zettaflops": price.training_zettaflops,
        "training_examples": price.examples,
        "state_bytes": price.state_bytes,
        "gradient_bytes": price.gradient_bytes,
        "activations": [asdict(one) for one in price.activations],
        "sampling_bytes_example": price.sampling_bytes,
        "sampling_batch": price.drawn,
        "hardware": asdict(plan.hardware),
        "devices": plan.devices,
        "batch": plan.batch,
        "remat": plan.remat.value,
        "utilisation": plan.utilisation,
        "days": plan.days,
        "bytes_a_device": plan.chosen.bytes,
        "fits": plan.fitting,
        "ways": [asdict(one) for one in plan.fits],
        "cures": cures(plan),
        "text": _text_json(plan),
        "negative": _negative_json(plan),
        "distillation": _distillation_json(plan),
    }


def lines(plan: Plan) -> list[str]:
    """The plan as lines of text; a learned tokenizer has the greatest size that it may have."""
    price, hardware = plan.price, plan.hardware
    shape = " × ".join(map(str, price.shape))
    classes = "no" if price.classes is None else price.classes
    given = f", the first {price.given_frames} frames given" if price.given_frames else ""
    at_most = "" if price.vocabulary is None else "at most "
    return [
        f"examples of {shape}{given}, {classes} classes; a multiply-add is one FLOP",
        "",
        *_table(
            ("level", "kind", "channels", "grid", "blocks", "parameters", "GFLOPs"),
            [
                (
                    str(one.level),
                    one.kind,
                    str(one.channels),
                    one.grid,
                    str(one.blocks),
                    f"{one.parameters:,}",
                    f"{one.gflops:.6g}",
                )
                for one in price.levels
            ],
        ),
        "",
        f"{at_most}{price.parameters:,} parameters; a forward pass takes {price.gflops:.6g} GFLOPs "
        f"by the paper's count, {price.gflops_xla:.6g} by XLA's "
        f"({100 * (price.gflops_xla / price.gflops - 1):+.2f} %):",
        *_table(("term", "GFLOPs"), [(one.term, f"{one.gflops:.6g}") for one in price.terms]),
        "",
        f"training on {price.examples:,} examples takes {price.training_zettaflops:.4g} zettaFLOPs",
        f"state (parameters, averages, moments) {price.state_bytes / GIB:.3f} GiB, "
        f"gradient {price.gradient_bytes / GIB:.3f} GiB",
        *_table(
            ("remat", "kept, MiB per example", "working", "on the host", "forwards per step"),
            [
                (
                    one.remat.value,
                    f"{one.kept / MIB:.4g}",
                    f"{one.working / MIB:.4g}",
                    f"{one.host / MIB:.4g}",
                    f"{one.forwards:.3g}",
                )
                for one in price.activations
            ],
        ),
        f"drawing {price.drawn} at once takes {price.drawn * price.sampling_bytes / GIB:.3f} GiB "
        f"beside {price.gradient_bytes / GIB:.3f} GiB of weights",
        *_text_lines(plan),
        *_negative_lines(plan),
        "",
        f"on {plan.devices} × {hardware.name} ({hardware.memory / GIB:.0f} GiB, "
        f"{hardware.flops / 1e12:.3g} TFLOPs per second; {hardware.source}):",
        *_verdict(plan),
    ]


def _text_json(plan: Plan) -> dict[str, Any] | None:
    text, seconds = plan.price.text, plan.caption_seconds
    if text is None:
        return None
    return {**asdict(text), "bytes_a_caption": text.bytes_a_caption, "caption_seconds": seconds}


def _text_lines(plan: Plan) -> list[str]:
    """How large a learned encoder is; what captions cost with a frozen one, by the million."""
    if plan.price.vocabulary is not None:
        return [
            f"text encoder learned: {plan.price.vocabulary:,} token ids, the most that "
            "text.encoder.learned.vocabulary allows; captions with few different words have fewer"
        ]
    text, seconds = plan.price.text, plan.caption_seconds
    if text is None or seconds is None:
        return []
    where = "once, in the stage text" if text.cached else "again in each training step"
    return [
        f"text encoder {text.encoder}: {text.cost.parameters:,} parameters, "
        f"{text.cost.weight_bytes / GIB:.3g} GiB on each device",
        f"  a million different captions of {text.tokens} tokens, the most that are kept, take "
        f"{_time(seconds * 1e6 / 86_400)}, {where}, and {text.bytes_a_caption * 1e6 / GIB:.4g} GiB",
    ]


def _negative_json(plan: Plan) -> dict[str, Any] | None:
    negative = plan.price.negative
    if negative is None:
        return None
    cost = {"training_zettaflops": negative.training_zettaflops, "days": plan.negative_days}
    return asdict(negative) | cost


def _negative_lines(plan: Plan) -> list[str]:
    negative, days = plan.price.negative, plan.negative_days
    if negative is None or days is None:
        return []
    return [
        f"train_negative: {negative.parameters:,} parameters, {negative.gflops:.6g} GFLOPs; its "
        f"training takes {negative.training_zettaflops:.3g} zettaFLOPs, {_time(days)}"
    ]


def _distillation_json(plan: Plan) -> dict[str, Any] | None:
    made = plan.price.distillation
    if made is None:
        return None
    students = [
        {
            "steps": one.steps,
            "forwards_iteration": made.forwards(one.passes),
            "training_zettaflops": made.zettaflops(one),
            "days": plan.student_days(one),
        }
        for one in made.students
    ]
    return asdict(made) | {
        "students": students,
        "bytes_a_device": plan.distill_chosen.bytes,
        "fits": not distill_cures(plan),
        "ways": [asdict(one) for one in plan.distill_fits],
        "cures": distill_cures(plan),
    }


def _distillation_lines(plan: Plan) -> list[str]:
    """What each student costs, and whether it fits."""
    made = plan.price.distillation
    if made is None:
        return []
    at_once, parts = plan.distill_local, made.accumulation
    return [
        "",
        f"distillation, {made.form}: {made.iterations:,} iterations of two batches of {made.batch} "
        f"for each student",
        *_table(
            ("  student", "forwards per iteration and example", "zettaFLOPs", "time"),
            [
                (
                    f"  {one.steps} {'step' if one.steps == 1 else 'steps'}",
                    f"{made.forwards(one.passes):.4g}",
                    f"{made.zettaflops(one):.4g}",
                    _time(plan.student_days(one)),
                )
                for one in made.students
            ],
        ),
        f"  state of all networks {made.state_bytes / GIB:.3f} GiB; {at_once} examples at once on "
        f"each device{f' (accumulation {parts})' if parts > 1 else ''}: remat {plan.remat.value} "
        f"{_needs(plan, plan.distill_chosen, fits=not distill_cures(plan))}",
        *(f"  - {cure}" for cure in distill_cures(plan)),
    ]


def _needs(plan: Plan, fit: Fit, *, fits: bool) -> str:
    need, have = fit.bytes / GIB, plan.hardware.memory / GIB
    verdict = "fits" if fits else "does not fit"
    return f"needs {need:.1f} of {have:.0f} GiB per device: it {verdict}"


def _at_once(plan: Plan) -> str:
    parts = plan.price.accumulation
    return "" if parts == 1 else f" at once, accumulation {parts}"


def _verdict(plan: Plan) -> list[str]:
    return [
        f"  a batch of {plan.batch} ({plan.local} per device{_at_once(plan)}) with remat "
        f"{plan.remat.value} {_needs(plan, plan.chosen, fits=plan.fitting)}",
        *(f"  - {cure}" for cure in cures(plan)),
        *_table(
            ("  remat", "state", "most examples per device"),
            [
                (
                    f"  {one.remat.value}",
                    "sharded (FSDP)" if one.sharded else "replicated",
                    f"{one.most:,}",
                )
                for one in plan.fits
            ],
        ),
        f"  at {100 * plan.utilisation:.0f} % utilisation training takes {_time(plan.days)}",
        *_distillation_lines(plan),
    ]


def _time(days: float) -> str:
    if days >= 1:
        return f"{days:.3g} days"
    return f"{24 * days:.3g} hours" if days >= 1 / 24 else f"{24 * 60 * days:.3g} minutes"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest entry; the first is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (headings, *rows)
    ]
