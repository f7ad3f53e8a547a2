"""Contenders measured side by side: each in a process of its own, in turn, round by round.

Other work on the machine slows a whole round down, not one contender, so ratios within a round say
more than times do. A process of its own gives each contender the environment it would really have,
and lets none of them spin while another is measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sid2core.models.architecture import UViTConfig
from sid2core.pipeline import launch

RESULTS = Path(__file__).parent / "results"
SHORTEST = 0.3
"""Seconds a measurement lasts at least; shorter work is repeated."""

Work = Callable[[], None]
"""One unit of work, finished when it returns."""


@dataclass(frozen=True)
class Contender:
    """One way of doing the work.

    Attributes:
        name: as in the table.
        make: ``module:function`` that makes the work; the module also has ``describe()``.
        arguments: of that function.
        tuned: whether its process is set up as a stage's is (:mod:`sid2core.pipeline.launch`).
        environment: variables its process starts with.
    """

    name: str
    make: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tuned: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class _Worker:
    """A contender's process."""

    def __init__(self, contender: Contender, threads: int, clock: str):
        self.contender, self.seconds = contender, list[float]()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, contender, threads, clock))
        tuned = launch.settings(os.environ) if contender.tuned else {}
        alone = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        with environment({**alone, **tuned, **contender.environment}):
            self._process.start()
        self.metadata: dict[str, Any] = self._pipe.recv()

    def measure(self) -> None:
        self._pipe.send("measure")
        self.seconds.append(self._pipe.recv())

    def stop(self) -> None:
        self._pipe.send("stop")
        self._process.join()


def _serve(pipe: Connection, contender: Contender, threads: int, clock: str) -> None:
    use_processors(threads)
    module_name, function = contender.make.split(":")
    try:
        module = importlib.import_module(module_name)
        work: Work = getattr(module, function)(**contender.arguments)
        work()
        repeats = max(1, round(SHORTEST / _seconds(work, 1, clock)))
        pipe.send({**module.describe(), "repeats": repeats})
    except Exception as error:  # whatever it is, the others are measured without it
        pipe.send({"error": f"{type(error).__name__}: {error}"})
        repeats = 0
    while pipe.recv() == "measure":
        pipe.send(_seconds(work, repeats, clock))


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """The body's processes start with these variables, too."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def use_processors(count: int) -> None:
    """Leave this process so many: XLA has as many threads as it may use processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _seconds(work: Work, repeats: int, clock: str) -> float:
    now: Callable[[], float] = getattr(time, clock)
    start = now()
    for _ in range(repeats):
        work()
    return (now() - start) / repeats


def race(
    contenders: Sequence[Contender], rounds: int, threads: int, clock: str = "perf_counter"
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds a unit of each contender's work takes, one number a round; and what they ran on.

    A contender that cannot run, or not on the first one's kind of device, is left out with a line.

    Args:
        contenders: the reference first.
        rounds: measurements of each.
        threads: processors of each.
        clock: a function of ``time``; ``process_time`` is for work that never waits.
    """
    running: list[_Worker] = []
    for contender in contenders:
        worker = _Worker(contender, threads, clock)
        device = running[0].metadata["platform"] if running else worker.metadata.get("platform")
        found = worker.metadata.get("platform")
        problem = worker.metadata.get("error") or (found != device and f"runs on {found} alone")
        if problem:
            print(f"left out: {contender.name}: {problem}", file=sys.stderr)
            worker.stop()
        else:
            running.append(worker)
    for number in range(rounds):
        for worker in running[number % len(running) :] + running[: number % len(running)]:
            worker.measure()
    metadata: dict[str, Any] = {}
    for worker in running:
        metadata |= {name: fact for name, fact in worker.metadata.items() if name != "repeats"}
        worker.stop()
    return {worker.contender.name: worker.seconds for worker in running}, metadata


def summary(seconds: Mapping[str, Sequence[float]], reference: str) -> dict[str, dict[str, float]]:
    """Median, minimum and quartiles of each, and the median of its ratios to ``reference``."""
    rows = {}
    for name, values in seconds.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        rows[name] = {"median": median, "min": min(values), "quartile_1": low, "quartile_3": high}
        if reference in seconds:
            pairs = zip(values, seconds[reference], strict=True)
            ratios = [own / other for own, other in pairs]
            rows[name]["ratio"] = statistics.median(ratios)
    return rows


def show(title: str, rows: Mapping[str, Mapping[str, float]], reference: str) -> None:
    """Print a table: milliseconds, and how many times ``reference``'s time each takes."""
    print(f"\n{title}; ratio to {reference}")
    print(f"  {'':34}{'median':>10}{'min':>10}{'quartiles':>20}{'ratio':>8}{'of ceiling':>12}")
    for name, row in rows.items():
        median, least, low, high = (
            f"{1e3 * row[key]:.1f}" for key in ("median", "min", "quartile_1", "quartile_3")
        )
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        share = f"{row['utilisation']:.0%}" if "utilisation" in row else ""
        print(f"  {name:34}{median:>10}{least:>10}{f'{low} - {high}':>20}{ratio:>8}{share:>12}")


def write(name: str, metadata: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write ``results/<name>-<platform>.json``: the command, what it ran on, what it measured."""
    path = RESULTS / f"{name}-{metadata['platform']}.json"
    content = {
        "command": command(name),
        "commit": commit(),
        "python": platform.python_version(),
        **metadata,
        "unit": "seconds",
        "results": results,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\n{path.relative_to(RESULTS.parent.parent)}")


def command(name: str) -> str:
    """The command that runs this benchmark, as it is typed on any machine."""
    return " ".join(["python -m", f"benchmarks.{name}", *_anywhere(sys.argv[1:])])


def commit() -> str:
    """Of the program that is measured; ``-changed`` if files but results differ from it."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    others = [".", f":!{RESULTS.relative_to(RESULTS.parent.parent)}"]
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *others]).returncode
    return head.strip() + "-changed" * bool(changed) if head else "unknown"


def _anywhere(given: Sequence[str]) -> list[str]:
    """The arguments as they are typed on any machine: of an absolute path, its last two parts."""
    return ["/".join(Path(one).parts[-2:]) if Path(one).is_absolute() else one for one in given]


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="names (or parts) of what to measure")
    return parser


def chosen(names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """Those of ``names`` that contain one of ``only``; all without it."""
    return [name for name in names if not only or any(part in name for part in only)]


def models(dtype: str) -> dict[str, UViTConfig]:
    """The two networks of the benchmarks: the project's default, and one of 5 GFLOPs."""
    from sid2core import config
    from sid2core.conditioning import ConditionSpec
    from sid2core.config import build  # these import jax, which a contender's process sets up

    default = build.network(
        config.read(Path("params.yaml")).model, (8, 8, 1), ConditionSpec.of_classes(10)
    )
    rgb = replace(
        default,
        image_shape=(64, 64, 3),
        channels=(64, 128, 256),
        blocks=("res", "res", "transformer"),
        encoder_depth=(3, 3),
        decoder_depth=(3, 3),
        mid_depth=6,
        dropout=(0.0, 0.0, 0.1),
        temporal_strides=(1, 1),
        emb_channels=256,
        head_size=64,
    )
    both = {"digits 8x8": default, "rgb 64x64": rgb}
    return {name: replace(one, compute_dtype=dtype) for name, one in both.items()}


def tiny(dtype: str) -> UViTConfig:
    """A network of one block, to try a program out."""
    return replace(
        models(dtype)["digits 8x8"],
        channels=(8,),
        blocks=("transformer",),
        encoder_depth=(),
        decoder_depth=(),
        mid_depth=1,
        dropout=(0.0,),
        temporal_strides=(),
        head_size=8,
    )
