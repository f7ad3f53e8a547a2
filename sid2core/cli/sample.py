"""``sid2 sample``: draw images or clips with a trained model, to files that say how."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sid2core.errors import Sid2Error, few

if TYPE_CHECKING:  # slow to import
    from sid2core.evaluation.prompts import Prompt
    from sid2core.inference.guidance_search import Setting
    from sid2core.inference.public import Model
    from sid2core.inference.request import Request

_BEST = Path("artifacts/guidance_search/best.json")
_TRAINED = "artifacts/train"
_STUDENTS = Path("artifacts/distill")


class SampleCommandError(Sid2Error):
    """The arguments do not go together, or a file has no request."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    model_argument(parser)
    what = parser.add_argument_group("what to draw")
    add = what.add_argument
    add("--class", dest="label", metavar="NAME", nargs="+", help="classes, by name or index")
    add("--prompt", metavar="TEXT", nargs="+", help="texts")
    add("--prompts", metavar="FILE", type=Path, help="a file of texts, as eval.prompts reads it")
    add("--negative", metavar="TEXT", help="a text that guidance pushes away from")
    add("--given", metavar="CLIP", nargs="+", help="clips whose first frames are continued")
    add("--frames", metavar="N", type=int, help="of a clip; default: as trained")
    add("--count", metavar="N", type=int, help="of each class, text or clip; default 1")
    add("--seed", metavar="S", type=int, help="of the noise; default 0")
    how = parser.add_argument_group("how")
    setting_arguments(how)
    add = how.add_argument
    add("--like", metavar="FILE", type=Path, help="draw what this file says, byte for byte")
    edit = parser.add_argument_group("edit a picture")
    add = edit.add_argument
    add("--init", metavar="IMAGE", help="start from this picture")
    add("--strength", metavar="T", type=float, help="of the noise on it, up to 1; default 0.5")
    add("--mask", metavar="IMAGE", help="draw where it is white, keep IMAGE where it is black")
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--out", metavar="PATH", type=Path, default=Path("samples"), help="default: samples/")
    add("--grid", action="store_true", help="one picture of all, a row for each class or text")
    add("--rate", metavar="N", type=float, default=8.0, help="frames a second of clips that play")
    add("--force", action="store_true", help="replace what is at PATH")
    add("--profile", metavar="FOLDER", type=Path, help="trace the drawing, show what takes time")


def model_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names a model."""
    best = "folder of weights; default: the best setting of guidance_search, else artifacts/train"
    parser.add_argument("model", metavar="MODEL", nargs="?", help=best)


def setting_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the arguments of a model's weights, sampler and guidance."""
    add = group.add_argument
    add("--student", metavar="K", type=int, help="the student of K steps: artifacts/distill")
    add("--ema", metavar="NAME", help="an average of the weights, such as 'power 0.1'")
    add("--sampler", metavar="NAME", help="such as ddpm, heun")
    add("--steps", metavar="N", type=int, help="of the sampler")
    add("--guidance", metavar="G", type=float, help="its weight; 0 for none")
    add("--interval", metavar=("LO", "HI"), nargs=2, type=float, help="log-SNRs where it acts")


_HOW = (
    *("model", "label", "prompt", "prompts", "negative", "given", "frames", "student", "ema"),
    *("sampler", "steps", "guidance", "interval", "init", "strength", "mask"),
    *("count", "seed"),
)


def run(options: argparse.Namespace) -> None:
    """Draw, and write the files."""
    _keep_programs()
    from sid2core.inference import drawn_files

    if options.like is None:
        with options_named():
            requests, layout = requests_of(options), _layout(options)
    else:
        used = [name for name in _HOW if getattr(options, name) is not None]
        if options.grid:
            used.append("grid")
        if used:
            msg = f"--like: the file says how to draw; leave out {', '.join(used)}"
            raise SampleCommandError(msg.replace("label", "class"))
        requests, layout = drawn_files.read(options.like)
    drawn_files.check(options.out, layout, force=options.force)
    from sid2core.inference.public import load_model

    with options_named() if options.like is None else nullcontext():
        model = load_model(requests[0].model)
        completed = [model.checked(one) for one in requests]
    count, clips = sum(one.count for one in completed), model.trained.shape.is_video
    drawn_files.check_samples(options.out, layout, count, clips=clips)
    with _traced(options.profile):
        parts = _drawn(model, completed)
    drawn_files.write(options.out, parts, completed, layout, names=model.class_names)
    print(f"{options.out}: {count:,} samples of {requests[0].model}, {_setting(completed[0])}")


def _setting(request: Request) -> str:
    """How a completed request draws, in words: ``ddpm, 32 steps, guidance 1``."""
    guidance = f"guidance {request.guidance:g}" if request.guidance else "no guidance"
    if request.interval is not None:
        guidance += " for log-SNR {:g} to {:g}".format(*request.interval)
    sampler = "" if request.sampler is None else f"{request.sampler.name}, "
    return f"{sampler}{request.steps} steps, {guidance}"


_OPTIONS = {
    "label": "--class NAME",
    "prompt": "--prompt TEXT",
    "negative": "--negative TEXT",
    "given": "--given CLIP",
    "frames": "--frames N",
    "count": "--count N",
    "seed": "--seed S",
    "ema": "--ema NAME",
    "sampler": "--sampler NAME",
    "steps": "--steps N",
    "guidance": "--guidance G",
    "interval": "--interval LO HI",
    "init": "--init IMAGE",
    "strength": "--strength T",
    "mask": "--mask IMAGE",
}
"""How each argument of a request is typed."""


@contextmanager
def options_named() -> Iterator[None]:
    """In errors, write arguments as options: at the start of a line, and in backquotes."""
    try:
        yield
    except Sid2Error as error:
        text = re.sub(r"^(?:request: )?(\w+)(?=:)", _option, str(error), flags=re.MULTILINE)
        raise SampleCommandError(re.sub(r"`(\w+)`", _typed, text)) from error


def _option(found: re.Match[str]) -> str:
    return _OPTIONS.get(found[1], found[0]).partition(" ")[0]


def _typed(found: re.Match[str]) -> str:
    return _OPTIONS.get(found[1], found[0])


def _keep_programs() -> None:
    """Compiled programs are kept, as stages keep them, where there is a work folder."""
    from sid2core.pipeline import places

    if places.work().is_dir():
        compiled = str((places.work() / "compiled").absolute())
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@contextmanager
def _traced(folder: Path | None) -> Iterator[None]:
    """Trace the body into ``folder``, if there is one, and print what took most time."""
    if folder is None:
        yield
        return
    from sid2core.pipeline import profile

    with profile.traced(folder, "draw") as place:
        yield
    print(profile.summary(place))


def _layout(options: argparse.Namespace) -> dict[str, Any]:
    if not 0.0 < options.rate < math.inf:
        msg = f"--rate: found {options.rate:g}; expected a positive number of frames a second"
        raise SampleCommandError(msg)
    return {"grid": options.grid, "rate": options.rate}


def _drawn(model: Model, requests: list[Request]) -> list[Any]:
    """The samples of each request, with a bar over the steps of all."""
    from sid2core.inference import clips
    from sid2core.pipeline import progress

    parts = []
    for number, request in enumerate(requests, 1):
        of = f"draw {number}/{len(requests)}" if len(requests) > 1 else "draw"
        windows = clips.windows(request.frames, model.trained.shape)
        with progress.bar(windows * (request.steps or 1), of, "step") as bar:

            def show(step: int, steps: int, x_hat: Any, bar: Any = bar, of: int = windows) -> None:
                x_hat.block_until_ready()
                bar.total = of * steps
                bar.update(1)

            parts.append(model.draw(request, show))
    return parts


def choices(options: argparse.Namespace) -> dict[str, Any]:
    """The values of a request for :func:`model_argument` and :func:`setting_arguments`."""
    from sid2core.inference import requested

    values: dict[str, Any] = _best() if options.model is None and options.student is None else {}
    if options.student is not None:
        if options.model is not None:
            msg = "--student: names a model; leave out MODEL"
            raise SampleCommandError(msg)
        values["model"] = _student(options.student)
    elif options.model is not None:
        values["model"] = options.model
    values |= _given(options, "ema", "steps")
    if options.guidance is not None:
        values |= {"guidance": options.guidance}
        if options.guidance == 0.0:
            values |= {"interval": None, "negative_model": None}
    if options.interval is not None:
        values["interval"] = tuple(options.interval)
    if options.sampler is not None:
        values["sampler"] = requested.sampler_named(options.sampler)
    return values


def _student(steps: int) -> str:
    """The folder of the student of so many steps, which is there."""
    folders = (path.parent.name for path in _STUDENTS.glob("student_*/config.json"))
    numbers = (name.removeprefix("student_") for name in folders)
    known = sorted(int(one) for one in numbers if one.isdecimal())
    if known and steps not in known:
        near = min(known, key=lambda one: abs(one - steps))
        msg = f"--student: found {steps}; {_STUDENTS} has students of {few(known)} steps: take "
        cure = f"--student {near}, or add {steps} to distill.steps and run `dvc repro`"
        raise SampleCommandError(msg + cure)
    return f"{_STUDENTS.as_posix()}/student_{steps}"


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that are there."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def requests_of(options: argparse.Namespace) -> list[Request]:
    """One for each text or clip; one for all classes."""
    from sid2core.inference.request import Request

    values = choices(options)
    values |= _given(options, "negative", "frames", "init", "strength", "mask", "seed")
    if options.student is not None and options.negative is not None:
        msg = (
            "--negative: a student has learned its teacher's guidance and takes none; leave it out"
        )
        raise SampleCommandError(msg)
    labels = [_label(one) for one in options.label or ()]
    count = 1 if options.count is None else options.count
    if labels:
        values["label"] = [one for one in labels for _ in range(count)]
    prompts, clips = _prompts(options), options.given
    if prompts and clips:
        msg = "--given: a model of clips takes no prompts with it; give one of the two"
        raise SampleCommandError(msg)
    values["count"] = count * max(1, len(labels))
    if prompts:
        student = options.student is not None
        return [Request.of(**_prompted(values, one, student=student)) for one in prompts]
    if clips:
        return [Request.of(**values, given=clip) for clip in clips]
    return [Request.of(**values)]


def _label(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _prompts(options: argparse.Namespace) -> list[Prompt]:
    """The texts of the command as they stand, and those of the file with its lines' options."""
    from sid2core.evaluation import prompts

    for one in options.prompt or ():
        if Path(one).suffix and os.path.isfile(one):
            msg = f"--prompt: {one} is a file, expected a text; use --prompts {one}"
            raise SampleCommandError(msg)
    found = [prompts.Prompt(text) for text in options.prompt or ()]
    return (
        found if options.prompts is None else found + prompts.of_file(options.prompts, "--prompts")
    )


def _prompted(values: dict[str, Any], prompt: Prompt, *, student: bool) -> dict[str, Any]:
    """The values of a request for a prompt, whose own options come first.

    A student has its own steps and has learned its teacher's guidance, so it ignores theirs.
    """
    own: dict[str, Any] = {"prompt": [prompt.text]}
    if prompt.seed:
        own["seed"] = prompt.seed
    if not student:
        if prompt.guidance == 0.0:
            own |= {"interval": None, "negative_model": None}
        options = {one: getattr(prompt, one) for one in ("negative", "steps", "guidance")}
        own |= {name: value for name, value in options.items() if value is not None}
    return {**values, **own}


def _best() -> dict[str, Any]:
    """The best setting that the search found, of the model that it searched."""
    if not _BEST.is_file():
        return {"model": _TRAINED}
    from sid2core.inference.guidance_search import chosen

    return values_of(chosen(json.loads(_BEST.read_text(encoding="utf-8"))).best)


def values_of(found: Setting) -> dict[str, Any]:
    """The values of a request for a setting of the search, of the model that it searched."""
    from sid2core.config.search import NULL, TRAINED, USUAL
    from sid2core.inference.guidance_search import sampler_of

    values: dict[str, Any] = {"model": _TRAINED, "guidance": found.weight, "steps": found.steps}
    if found.sampler is not None:
        values["sampler"] = sampler_of(found.sampler)
    if found.average != USUAL:
        values["ema"] = found.average
    if found.weight and found.logsnr_min is not None and found.logsnr_max is not None:
        values["interval"] = (found.logsnr_min, found.logsnr_max)
    if found.weight and found.negative != NULL:
        trained = f"artifacts/{TRAINED}"
        values["negative_model"] = trained if found.negative == TRAINED else found.negative
    return values
