"""``sid2 serve``: an interactive page that draws from trained models."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sid2core.errors import Sid2Error, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sid2core.inference.public import Model
    from sid2core.inference.request import Request
    from sid2core.serving.models import Served

TOKEN = "SID2_SERVE_TOKEN"
_SHORTEST = 16
_BASE = "base"
"""The name of the model of this project, where none is named."""
_CLIPS = 16
"""Clips of the eval split whose first frames can be continued."""


class ServeError(Sid2Error):
    """The page cannot be served as asked."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "models",
        nargs="*",
        type=Path,
        metavar="MODEL",
        help="folder of a model; default: the base model and the students in artifacts/",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s; 0: any")
    parser.add_argument(
        "--given",
        type=Path,
        action="extend",
        nargs="+",
        metavar="CLIP",
        help="first frames to continue: videos, animations, .npy files, folders of pictures",
    )
    for name, default in (("count", 64), ("steps", 256), ("pixels", 2**24)):
        parser.add_argument(
            f"--max-{name}",
            type=_positive,
            default=default,
            metavar="N",
            help=f"most {name} of a drawing; default: %(default)s",
        )


def run(options: argparse.Namespace) -> None:
    """Load the models, print the address, serve until Ctrl-C."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"{', '.join(missing)} not installed: pip install -c constraints.txt -e '.[serve]'"
        raise ServeError(msg)
    from sid2core.pipeline import launch, places

    launch.start_again()
    if places.work().is_dir():
        compiled = str((places.work() / "compiled").absolute())
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)

    from sid2core.serving import app, guard, server
    from sid2core.serving.asked import Limits
    from sid2core.serving.models import Served

    token = None if guard.is_loopback(options.host) else _token(os.environ)
    limits = Limits(options.max_count, options.max_steps, options.max_pixels)
    with server.listen(options.host, options.port) as listening:
        models = _models(options.models)
        served = {
            name: Served(model, limits, _first_frames(model, options.given))
            for name, model in models.items()
        }
        guided = None if options.models else _guided()
        if guided is not None:
            served[_BASE] = _searched(served[_BASE], guided)
        start = _start(models, limits, guided)
        made = app.application(served, start, host=options.host, token=token)
        port = listening.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        query = "" if token is None else f"?token={token}"
        print(f"{', '.join(served)}: http://{host}:{port}/{query}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.server(made).run(sockets=[listening])
    # A thread that compiles cannot be interrupted, and would abort at the interpreter's end.
    sys.stderr.flush()
    os._exit(0)


def _token(environment: Mapping[str, str]) -> str:
    """The token that other machines must know: the user's, or a new one."""
    token = environment.get(TOKEN)
    if token is None:
        return secrets.token_urlsafe(24)
    if len(token) < _SHORTEST or not token.isascii() or not token.isalnum():
        msg = f"{TOKEN}: expected {_SHORTEST} or more letters and digits, or unset it for a new one"
        raise ServeError(msg)
    return token


def _models(folders: Sequence[Path]) -> dict[str, Model]:
    """The models by name: that of their folder, with the one above where two are equal."""
    from sid2core.inference.public import load_model

    if not folders:
        named = {_BASE: Path("artifacts/train")}
        students = sorted(Path("artifacts/distill").glob("*/config.json"))
        named |= {path.parent.name: path.parent for path in students}
    else:
        names = [path.absolute().name for path in folders]
        named = {
            name if names.count(name) == 1 else "/".join(path.absolute().parts[-2:]): path
            for name, path in zip(names, folders, strict=True)
        }
        if len(named) != len(folders):
            msg = f"found {len(folders)} folders with {len(named)} names: {', '.join(named)}"
            raise ServeError(f"{msg}; give each model once, in folders of different names")
    return {printable(name): load_model(path) for name, path in named.items()}


def _guided() -> Request | None:
    """The best setting with guidance that the search found; None where none was searched."""
    from sid2core.cli.sample import values_of
    from sid2core.inference import guidance_search
    from sid2core.inference.request import Request
    from sid2core.pipeline import artifact

    if not (artifact.ROOT / "guidance_search" / artifact.MANIFEST).exists():
        return None
    found = guidance_search.load(artifact.load("guidance_search")).guided
    return Request.of(**values_of(found))


def _searched(base: Served, guided: Request) -> Served:
    """The base model with the average that the search chose, and its worse model, if it has one."""
    from sid2core.inference import requested
    from sid2core.inference.public import Model

    found = requested.searched(base.model.trained, guided)
    return replace(base, model=Model(found.model), worse=found.worse)


def _first_frames(
    model: Model, paths: Sequence[Path] | None
) -> dict[str, NDArray[np.uint8]] | None:
    """The first frames by name that a model can continue, each [k, h, w, c]; None for others.

    They are of ``paths``, or else of the eval split beside the model.
    """
    import numpy as np

    from sid2core.data.load.dataset import Dataset
    from sid2core.inference import clips
    from sid2core.pipeline import artifact

    kind = model.condition.given
    if kind is None:
        return None
    if paths:
        settings = model.trained.config
        return {printable(str(path)): clips.read(path, kind, settings) for path in paths}
    for root in model.trained.folder.absolute().parents[:2]:
        if (root / "prepare" / artifact.MANIFEST).exists():
            prepare = artifact.load("prepare", root=root)
            dataset = Dataset.open(prepare, "eval", clip_frames=model.trained.shape.frames)
            taken = dataset.take(np.arange(min(_CLIPS, len(dataset))))[:, : kind.shape[0]]
            return {f"eval clip {index}": frames for index, frames in enumerate(taken)}
    return None


def _start(models: Mapping[str, Model], limits: Any, guided: Request | None) -> dict[str, Any]:
    """What the page shows first: the guidance is that of ``guided``, if there is one."""
    from sid2core.serving.models import samplers

    bases = [name for name, model in models.items() if model.student_steps is None]
    students = sorted(models.keys() - bases, key=lambda name: models[name].student_steps or 0)
    low, high = -10.0, 10.0
    start = {
        "models": [*bases[:1], *students[-1:]],
        "guidance": 0,
        "interval": False,
        "from": -3,
        "to": 5,
        "autoguidance": False,
        "sampler": "ddpm",
        "steps": min(32, limits.steps),
        "seed": 0,
        "count": min(16, limits.count),
    }
    if guided is not None:
        start |= {"guidance": guided.guidance, "autoguidance": guided.negative_model is not None}
    if guided is not None and guided.interval is not None:
        start |= {"interval": True, "from": guided.interval[0], "to": guided.interval[1]}
    if bases:
        schedule = models[bases[0]].trained.schedule
        low, high = (round(float(schedule.logsnr(time))) for time in (1.0, 0.0))
    return {
        "samplers": samplers(),
        "limits": {"count": limits.count, "steps": limits.steps},
        "axis": [low, high],
        "start": start,
    }


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected 1 or more")
    return value
