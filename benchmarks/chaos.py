"""Training that is killed again and again, beside one that is left alone.

    python -m benchmarks.chaos [--kills 30] [--steps 5000]

The stage ``train`` on the preset ``tiny`` is killed (-9) at random moments: while it starts, while
it restores, steps, and writes checkpoints, which it does most of the time here. After each kill
every checkpoint that is there must be readable. In the end all that the stage wrote must be the
same bytes as without a kill, and its log must have each row once. Ends with 1 where it is not so.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
import orbax.checkpoint as ocp
import pandas as pd

from benchmarks.common import RESULTS
from sid2core import checksums
from tests import tiny
from tests.processes import finish, start

EVERY = {"log_every": 3, "checkpoint_every": 5}


def main() -> int:
    """Train calmly, train under fire, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument(
        "--window", type=float, default=3.0, help="seconds of steps a kill falls in"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax, of opening what it may only read
    with tempfile.TemporaryDirectory() as place:
        compiled, calm, fire = (Path(place) / name for name in ("compiled", "calm", "fire"))
        calm.mkdir()
        tiny.write(calm, train={"steps": options.steps}, runtime=EVERY)
        finish(start("prepare", calm, compiled))
        finish(start("text", calm, compiled))
        shutil.copytree(calm, fire)
        finish(start("train", calm, compiled))  # compiles
        for place in ("artifacts", ".sid2"):
            shutil.rmtree(calm / place / "train")
        ready, seconds = _calm(calm, compiled)
        print(f"left alone: {seconds:.1f} s, of which {ready:.1f} s before the first checkpoint")
        moments = random.Random(options.seed)
        kills = [
            _kill(fire, compiled, moments.uniform(0.0, ready + options.window))
            for _ in range(options.kills)
        ]
        finish(start("train", fire, compiled))
        results = _summary(kills, calm, fire, options.steps)
    print("\n".join(f"{name}: {value}" for name, value in results.items()))
    _write(results)
    return 0 if results["same_bytes"] and results["every_row_once"] else 1


def _calm(folder: Path, compiled: Path) -> tuple[float, float]:
    """Seconds to the first checkpoint, and to the end."""
    since = time.perf_counter()
    with start("train", folder, compiled) as process:
        while not _complete(folder):
            time.sleep(0.005)
        ready = time.perf_counter() - since
        process.communicate()
    if process.returncode:
        raise SystemExit("train failed without any kill")
    return ready, time.perf_counter() - since


def _kill(folder: Path, compiled: Path, after: float) -> dict[str, Any]:
    """Start, kill ``after`` so many seconds, and read every checkpoint that is there."""
    before = max((int(path.name) for path in _complete(folder)), default=0)
    with start("train", folder, compiled) as process:
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            raise SystemExit(f"train ended by itself ({process.returncode}): give more --steps")
    whole = _complete(folder)
    for path in whole:
        _read(path)
    newest = max((int(path.name) for path in whole), default=0)
    unfinished = [path for path in _written(folder) if path not in whole]
    print(f"killed after {after:5.2f} s: step {before} to {newest}, {len(unfinished)} unfinished")
    return {
        "after": after,
        "steps": newest - before,
        "readable": len(whole),
        "unfinished": len(unfinished),
    }


def _written(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(".sid2/train/*/checkpoints/*") if path.is_dir())


def _complete(folder: Path) -> list[Path]:
    """Those that a restart would take for whole."""
    return [path for path in _written(folder) if path.name.isdigit()]


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
        pending = log["pending"]
    if int(state["step"]) != step or len(pending) != step % EVERY["log_every"]:
        raise SystemExit(f"{path} holds step {state['step']} and {len(pending)} steps for the log")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
        raise SystemExit(f"{path} holds what is not finite")


def _summary(kills: list[dict[str, Any]], calm: Path, fire: Path, steps: int) -> dict[str, Any]:
    expected, found = tiny.snapshot(calm, "train"), tiny.snapshot(fire, "train")
    rows = pd.read_csv(fire / "reports/train/curve.csv")["step"].tolist()
    expected_steps = [*range(EVERY["log_every"], steps, EVERY["log_every"]), steps]
    return {
        "kills": len(kills),
        "kills_before_the_first_new_checkpoint": sum(one["steps"] == 0 for one in kills),
        "kills_while_a_checkpoint_was_written": sum(one["unfinished"] > 0 for one in kills),
        "checkpoints_read": sum(one["readable"] for one in kills),
        "steps": steps,
        "files_compared": len(expected),
        "same_bytes": expected == found,
        "every_row_once": rows == expected_steps,
    }


def _write(results: Mapping[str, Any]) -> None:
    path = RESULTS / "chaos.json"
    content = {
        "command": " ".join(["python -m benchmarks.chaos", *sys.argv[1:]]),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "orbax": ocp.__version__,
        "results": results,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(path.relative_to(RESULTS.parent.parent))


if __name__ == "__main__":
    sys.exit(main())
