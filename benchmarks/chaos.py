"""A pipeline that is killed again and again, beside one that is left alone.

    python -m benchmarks.chaos [--kills 30] [--commands repro queue] [--stages train distill]

Each long stage is killed (-9) under each of DVC's commands: the stage alone and all processes at
once (a power cut), in turn. A kill waits until the restarted stage has added to its work, a
checkpoint or a chunk, and then for a random time; one of ``EARLY`` comes at a random moment of the
start instead. After each kill every checkpoint that is there must be readable. In the end all
artifacts and reports must have the bytes of the undisturbed run. Ends with 1 where they have not,
or where less than nine of ten kills found a new checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
import orbax.checkpoint as ocp

from benchmarks import common
from sid2core import atomic, checksums
from tests import dvc_project, killing, tiny
from tests.dvc_project import Project

TARGETS = ("stage", "everything")
EARLY = 15
START_SECONDS = 5.0
"""Of a stage, in which early kills fall."""
PATIENCE_S = 1800
"""For a stage to get going, or to end."""
LEAST = 0.9
"""Share of the kills that must find a new checkpoint."""
SIZES: dict[str, Any] = {
    "data": {"shard_records": 64, "row_group_records": 64},
    "reference": {"steps": 300},
    "train": {"steps": 1000},
    "guidance_search": {"weights": [0.5, 1.0, 2.0, 3.0, 4.0]},
    "distill": {"iterations": 300},
    "runtime": {"log_every": 3, "checkpoint_every": 5},
}
"""Checkpoints are written most of the time, and fall between rows of the log."""


@dataclass(frozen=True)
class Kill:
    """What a kill found.

    Attributes:
        command: of DVC.
        stage: that was killed.
        what: of it.
        early: whether it came before the stage had added to its work, as it was meant to.
        after: seconds from there on, or from the start of the stage.
        new: files that the stage had added since it was started.
        unfinished: checkpoints that were being written.
        readable: whole checkpoints, all of which were read.
    """

    command: str
    stage: str
    what: str
    early: bool
    after: float
    new: int
    unfinished: int
    readable: int


def main() -> int:
    """Run calmly, run under fire, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--commands", nargs="+", default=[*killing.COMMANDS])
    parser.add_argument("--stages", nargs="+", choices=killing.LONG, default=killing.LONG)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax, of opening what it may only read
    moments, kills, differ = random.Random(options.seed), list[Kill](), list[str]()
    with tempfile.TemporaryDirectory() as place:
        last = max(options.stages, key=killing.LONG.index)
        target = "" if last == killing.LONG[-1] else last  # all stages, or those up to this one
        calm = _project(Path(place), "calm")
        spans = _spans(calm, target)
        expected = killing.written(calm)
        for command, shares in _shares(options.kills, options.commands, options.stages):
            fire = _project(Path(place), command)
            for stage, count in shares.items():
                pause = spans[stage] / (count + 1)
                for _ in range(count):
                    kill = _kill(fire, command, target, stage, len(kills), pause, moments)
                    if kill is None:
                        break
                    kills.append(kill)
                    print(kill, flush=True)
            found = _finished(fire, command, target)
            differ += [name for name in expected if found.get(name) != expected[name]]
            differ += [name for name in found if name not in expected]
    results = _summary(kills, len(expected), differ)
    print("\n".join(f"{name}: {value}" for name, value in results.items()))
    _write(results, kills)
    return 0 if results["same_bytes"] and results["share_with_a_new_checkpoint"] >= LEAST else 1


def _shares(
    kills: int, commands: Sequence[str], stages: Sequence[str]
) -> Iterator[tuple[str, Counter[str]]]:
    """How many kills each stage gets under each command: as equal as can be, in order."""
    pairs = itertools.islice(itertools.cycle(itertools.product(commands, stages)), kills)
    counts = Counter(pairs)
    for command in commands:
        yield command, Counter({stage: counts[command, stage] for stage in stages})


def _project(place: Path, name: str) -> Project:
    """A copy of the project, tiny but with enough to do; all copies share compiled programs."""
    folder = place / name.replace(" ", "-") / "project"
    cache = str(place / "compiled")
    project = dvc_project.copy(folder, JAX_COMPILATION_CACHE_DIR=cache)
    tiny.write(folder, **SIZES)
    project.commit()
    return project


def _spans(project: Project, target: str) -> dict[str, float]:
    """Run it; seconds from the first work of each stage to its end."""
    first, last = dict[str, float](), dict[str, float]()
    with _start(project, "repro", target) as command:
        while command.poll() is None:
            for stage in killing.running(project):
                last[stage] = time.monotonic()
                if stage not in first and killing.work(project, stage):
                    first[stage] = last[stage]
            time.sleep(0.05)
    if command.returncode:
        raise SystemExit(f"dvc repro failed without any kill: {_log(project)}")
    return {stage: last[stage] - since for stage, since in first.items()}


def _start(project: Project, command: str, target: str) -> subprocess.Popen[bytes]:
    lines = killing.COMMANDS[command]
    *before, last = [line if "start" in line else f"{line} {target}" for line in lines]
    for line in before:
        project.run(line)
    started: subprocess.Popen[bytes] = project.start(last, project.folder.with_name("log"))
    return started


def _kill(
    project: Project,
    command: str,
    target: str,
    stage: str,
    number: int,
    pause: float,
    moments: random.Random,
) -> Kill | None:
    """Start, kill at a random moment, and read every checkpoint that is there.

    Returns:
        What it found; None if the stage had nothing left to do.
    """
    before, what = killing.work(project, stage), TARGETS[number % len(TARGETS)]
    early = number % EARLY == EARLY - 1
    after = moments.uniform(0.0, START_SECONDS if early else pause)
    process = _start(project, command, target)
    later = {*killing.LONG[killing.LONG.index(stage) + 1 :]}

    def begun() -> bool:
        there = early and stage in killing.running(project)
        return bool(there or killing.work(project, stage) - before)

    def passed() -> bool:
        ended = process.poll() is not None and not project.processes()
        return ended or bool(killing.running(project) & later)

    killing.wait(lambda: begun() or passed(), f"work of {stage}", PATIENCE_S)
    time.sleep(after)
    own = killing.tree(project, stage)
    late = not own or passed()
    new = len(killing.work(project, stage) - before)
    killing.kill(own if what == "stage" and not late else project.processes())
    killing.wait(lambda: not project.processes(), f"the end of {stage}", PATIENCE_S)
    process.wait()
    if command == "exp run":
        killing.rescue(project)
    if late:
        return None
    whole = [path for path in _checkpoints(project, stage) if path.name.isdigit()]
    for path in whole:
        _read(path)
    unfinished = len(_checkpoints(project, stage)) - len(whole)
    return Kill(command, stage, what, early, round(after, 3), new, unfinished, len(whole))


def _checkpoints(project: Project, stage: str) -> list[Path]:
    """Also those that were being written."""
    place = project.folder / ".sid2" / stage
    found = [*place.glob("*/checkpoints/*"), *place.glob("*/*/checkpoints/*")]
    return sorted(path for path in found if path.is_dir())


def _read(path: Path) -> None:
    """Read a checkpoint as a restart does; whatever is wrong with it is raised."""
    log = checksums.read_json(path / "log.json")
    if log is None or not checksums.whole(path / "default"):
        raise SystemExit(f"{path} does not match its checksums")
    options = ocp.CheckpointManagerOptions(read_only=True)
    handler = ocp.StandardCheckpointHandler()
    with ocp.CheckpointManager(path.parent, options=options, item_handlers=handler) as manager:
        step = int(path.name)
        state = manager.restore(step, args=ocp.args.StandardRestore())
    if len(log["pending"]) != step % SIZES["runtime"]["log_every"]:
        raise SystemExit(f"{path} holds {len(log['pending'])} steps for the log")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
        raise SystemExit(f"{path} holds what is not finite")


def _finished(project: Project, command: str, target: str) -> dict[str, bytes]:
    """Run to the end; what was written."""
    process = _start(project, command, target)
    killing.wait(lambda: process.poll() is not None, "the end", PATIENCE_S)
    killing.wait(lambda: not project.processes(), "the end of all processes", PATIENCE_S)
    if process.returncode:
        raise SystemExit(f"{command} failed after the kills: {_log(project)}")
    if command != "repro":
        (experiment,) = project.experiments()
        project.run(f"dvc exp apply {experiment.rpartition('/')[2]}")
    found: dict[str, bytes] = killing.written(project)
    return found


def _log(project: Project) -> str:
    return project.folder.with_name("log").read_text(encoding="utf-8")[-2000:]


def _summary(kills: Sequence[Kill], files: int, differ: Sequence[str]) -> dict[str, Any]:
    found = sum(one.new > 0 for one in kills)
    return {
        "kills": len(kills),
        "with_a_new_checkpoint": found,
        "share_with_a_new_checkpoint": round(found / len(kills), 3),
        "while_a_checkpoint_was_written": sum(one.unfinished > 0 for one in kills),
        "checkpoints_read": sum(one.readable for one in kills),
        "files_compared": files,
        "different": sorted(set(differ)),
        "same_bytes": not differ,
    }


def _write(results: dict[str, Any], kills: Sequence[Kill]) -> None:
    content = {
        "command": common.command("chaos"),
        "commit": common.commit(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "orbax": ocp.__version__,
        "results": results,
        "each": [asdict(one) for one in kills],
    }
    atomic.write_json(common.RESULTS / "chaos.json", content)


if __name__ == "__main__":
    sys.exit(main())
