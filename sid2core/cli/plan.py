"""``sid2 plan``: the cost of the model and its training, and whether they fit."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from sid2core import config
from sid2core.config import presets
from sid2core.errors import Sid2Error
from sid2core.plan.hardware import SHEETS

if TYPE_CHECKING:
    from sid2core.conditioning import ConditionSpec


class PlanError(Sid2Error):
    """The command line does not determine what to plan."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--preset", metavar="NAME", help="a preset instead of params.yaml")
    parser.add_argument(
        "--devices", metavar="N", type=positive, default=1, help="number of devices"
    )
    parser.add_argument("--batch", metavar="B", type=positive, help="default: train.batch_size")
    parser.add_argument("--hardware", choices=(*SHEETS, "cpu"), default="h200")
    parser.add_argument("--utilisation", metavar="U", type=_share, default=0.4)
    parser.add_argument("--shape", metavar="HxWxC", type=_shape, help="of one example (or FxHxWxC)")
    parser.add_argument("--classes", metavar="N", type=_whole, help="number of classes; 0 for none")
    parser.add_argument(
        "--captions",
        action=argparse.BooleanOptionalAction,
        help="whether examples have captions; default: as the source has them",
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(options: argparse.Namespace) -> None:
    """Compute the plan and print it."""
    params, evidence = _params(options.preset)
    shape = options.shape or shape_of(params.data, params.loader.clip_frames)
    classes, captions = options.classes, options.captions
    if evidence is not None:
        classes = evidence.classes if classes is None else classes
        captions = evidence.captions if captions is None else captions

    from sid2core.models.execution import Remat
    from sid2core.plan import hardware, plan, text

    attention = hardware.attention(options.hardware)
    made = plan.on_hardware(
        plan.price(params, shape, condition_of(params, shape, classes, captions), attention),
        hardware.hardware(options.hardware),
        options.devices,
        options.batch or params.train.batch_size,
        Remat(params.runtime.remat),
        options.utilisation,
    )
    print(json.dumps(text.as_json(made), indent=2) if options.json else "\n".join(text.lines(made)))


def _params(preset: str | None) -> tuple[config.Params, presets.Evidence | None]:
    """The parameters, and what a preset states about the data."""
    if preset is None:
        return config.read(), None
    read = presets.read(preset)
    return presets.change(read).params, read.evidence


def shape_of(data: config.Data, clip_frames: int | None) -> tuple[int, ...]:
    """The shape of one example: as ``data`` says, or the source's own."""
    return config.clip_shape(data.shape or _source(data).shape, clip_frames)


def condition_of(
    params: config.Params, shape: tuple[int, ...], classes: int | None, captions: bool | None
) -> ConditionSpec:
    """So many classes (0 is none), else those of the source; captions, and given frames."""
    from sid2core.plan.captions import expected_kind

    spec, captioned = _classes(params.data, classes)
    wanted = captioned if captions is None else captions
    spec = spec.with_text(expected_kind(params.text) if wanted else None)
    return spec.with_given(params.data.given_frames, shape)


def _classes(data: config.Data, classes: int | None) -> tuple[ConditionSpec, bool]:
    """The classes, and whether the source has captions; if they are given, it is not opened."""
    from sid2core.conditioning import ConditionSpec  # imports NumPy

    if classes is not None:
        return ConditionSpec.of_classes(classes) if classes else ConditionSpec(), False
    try:
        source = _source(data)
        names = source.class_names
    except Sid2Error as error:
        msg = f"the classes cannot be counted ({error}); give --classes N"
        raise PlanError(msg) from error
    captioned = source.captioned and data.captions != "none"
    metadata = {"class_names": names, "shape": source.shape, "captioned": captioned}
    return ConditionSpec.of_data(metadata), captioned


def _source(data: config.Data):  # noqa: ANN202 (its module is slow to import)
    from sid2core.data.sources import opening

    return opening.opened(data)[0]


def positive(value: str) -> int:
    """A whole number of at least 1 on the command line."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of at least 1")
    return int(value)


def _whole(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of at least 0")
    return int(value)


def _share(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.0 < number <= 1.0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a share between 0 and 1")
    return number


def _shape(value: str) -> tuple[int, ...]:
    sizes = value.lower().replace("×", "x").split("x")
    if len(sizes) not in (3, 4) or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(
            f"{value!r} is not HxWxC or FxHxWxC, whole numbers such as 32x32x3"
        )
    return tuple(int(size) for size in sizes)
