"""Training steps and 50-step sampling of the published networks on one GPU, beside PyTorch.

    python -m benchmarks.gpu [--minutes 7.5] [--only 256 train] [--fresh]

Both sides compute in bfloat16 and recompute nothing; PyTorch's is the exported network under
``torch.compile``, channels last. A row is one network, one task and one side, in a process of its
own, with the largest batch that fits: what :mod:`sid2core.plan` expects, halved while memory runs
out, and at most ``LONGEST`` seconds of work. The file is written after every row, and a row that
fails has its error there. The same command goes on with the rows that are missing at this commit.

MFU is the multiply-adds by SiD2 supplement B.3, of a training step three forward passes, over those
of the data sheet. Peak memory is what the framework had allocated.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import Work
from sid2core import atomic
from sid2core.models.architecture import UViTConfig
from sid2core.pipeline import launch

PRESETS = {
    "64": "imagenet64",
    "256 small": "imagenet256-small",
    "256 flop heavy": "imagenet256-flop-heavy",
    "512 flop heavy": "imagenet512-flop-heavy",
}
STEPS = 50
LONGEST = 4.0
"""Seconds of a training step or a drawing, at 40 % of the data sheet's rate."""
REPEATS, SECONDS = 3, 4.0
"""Of a measurement, at least."""
TOP = 10
SIDES = {"ours": "benchmarks.ours", "torch": "benchmarks.twin"}
TASKS = ("train", "sample")
Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One measurement: which network does what on which side, on batches of how many images."""

    network: str
    task: str
    side: str
    tiny: bool = False
    batch: int = 1

    @property
    def name(self) -> str:
        """As in the file."""
        return f"{self.network}, {self.task}, {self.side}"

    @property
    def steps(self) -> int:
        """Of sampling."""
        return 2 if self.tiny else STEPS

    def work(self, network: UViTConfig, batch: int) -> Work:
        """The work, ready to run."""
        module = importlib.import_module(SIDES[self.side])
        compiled = {"compiled": True} if self.side == "torch" else {}
        if self.task == "train":
            made: Work = module.train_step(network, batch, **compiled)
        else:
            made = module.sampler(network, batch, self.steps, (0, 0), **compiled)
        return made

    def forwards(self) -> int:
        """Forward passes an image costs, a backward pass counted as two."""
        from sid2core.models import cost

        return cost.FORWARDS_PER_TRAINING_STEP if self.task == "train" else self.steps


def main() -> None:
    """Measure the rows that are missing, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=7.5, help="in which rows may run")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds for a row")
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of rows, all of")
    parser.add_argument("--fresh", action="store_true", help="rows of an earlier run, too")
    parser.add_argument(
        "--tiny", action="store_true", help="one network of one block: to try it out"
    )
    parser.add_argument("--folder", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    about = in_process(_machine, options.tiny, seconds=options.patience)
    if "error" in about:
        sys.exit(f"JAX has no device to measure: {about['error']}")
    networks = about.pop("networks")
    path = options.folder / f"gpu-{about['device']}.json"
    content = {"command": common.command("gpu"), "commit": common.commit(), **about}
    rows = {} if options.fresh else _earlier(path, content["commit"])
    for row in _rows(networks, tiny=options.tiny):
        left = end - time.monotonic()
        if row.name in rows or not all(part in row.name for part in options.only):
            continue
        if left < 0:
            print(f"{row.name}: no time is left; run the command again")
            continue
        rows[row.name] = in_process(_measured, row, about, seconds=min(left, options.patience))
        print(f"{row.name}: {shown(rows[row.name])}", flush=True)
        faster = ratios(rows)
        atomic.write_json(path, content | {"faster_than_torch": faster, "rows": rows})
    print(path)


def _rows(networks: Mapping[str, Any], *, tiny: bool) -> list[Row]:
    """Training first."""
    return [
        Row(network, task, side, tiny, plan[task])
        for task in TASKS
        for network, plan in networks.items()
        for side in SIDES
    ]


def _earlier(path: Path, commit: str) -> dict[str, Result]:
    """The rows that were measured at this commit."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if content.get("commit") != commit:
        return {}
    return {name: row for name, row in content["rows"].items() if "error" not in row}


def ratios(rows: Mapping[str, Result]) -> dict[str, float]:
    """Images a second over those of PyTorch, where both were measured."""
    found = {}
    for name, row in rows.items():
        other = rows.get(name.replace(", ours", ", torch"), {})
        if name.endswith(", ours") and "error" not in row | other and other:
            ratio = row["images_per_second"] / other["images_per_second"]
            found[name.removesuffix(", ours")] = round(ratio, 3)
    return found


def shown(row: Result) -> str:
    """A row in a line."""
    if "error" in row:
        return f"left out: {row['error']}"
    mfu = "" if row["mfu"] is None else f", MFU {row['mfu']:.1%}"
    rate, peak = row["images_per_second"], row["peak_memory_mib"]
    return f"batch {row['batch']}, {rate:.1f} images/s{mfu}, {peak:.0f} MiB"


# In processes of their own


def in_process(function: Callable[..., Result], *arguments: Any, seconds: float) -> Result:
    """What ``function`` returns in a new process, or why it did not in so many seconds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    with common.environment(
        launch.settings(os.environ) | {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".92"}
    ):
        process.start()
    theirs.close()
    try:
        if not ours.poll(max(0.0, seconds)):
            return {"error": f"took more than {seconds:.0f} s"}
        found: Result = ours.recv()
        return found
    except EOFError:
        process.join()
        return {"error": f"its process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _answer(pipe: Connection, function: Callable[..., Result], arguments: tuple[Any, ...]) -> None:
    try:
        found = function(*arguments)
    except Exception as error:  # whatever it is, the other rows are measured
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    pipe.send(found)


def _machine(tiny: bool) -> Result:
    """What the rows run on, and the batch of each network with which they begin."""
    import jax
    import psutil

    from benchmarks import ours
    from sid2core.plan.hardware import SHEETS
    from sid2core.training import peak_flops

    device = jax.local_devices()[0]
    kind = device.device_kind.lower()
    name = next((one for one in SHEETS if one in kind), re.sub(r"\W+", "-", kind))
    sheet = SHEETS[name].named(name).flops if name in SHEETS else None
    memory = (device.memory_stats() or {}).get("bytes_limit", psutil.virtual_memory().total)
    measured = 1e9 * peak_flops.gflops_per_second("bfloat16", 1)
    flops = sheet or measured
    return {
        **ours.describe(),
        "device": name,
        "device_kind": device.device_kind,
        "driver": device.client.platform_version,
        "memory_bytes": memory,
        "multiply_adds_per_second": {"data_sheet": sheet, "matrix_product": round(measured)},
        "networks": {
            name: {
                task: min(4, batch) if tiny else batch
                for task, batch in _batches(network, memory, flops).items()
            }
            for name, network in _networks(tiny).items()
        },
    }


def _networks(tiny: bool) -> dict[str, UViTConfig]:
    """By their names here."""
    from sid2core.conditioning import ConditionSpec
    from sid2core.config import build, presets

    if tiny:
        return {"tiny": common.tiny("bfloat16")}
    found = {}
    for name, preset in PRESETS.items():
        read = presets.read(preset)
        params = presets.change(read).params
        spec = ConditionSpec.of_classes(read.evidence.classes)
        shape = build.network(params.model, params.data.shape, spec)
        found[name] = replace(shape, compute_dtype="bfloat16")
    return found


def _batches(network: UViTConfig, memory: int, flops: float) -> dict[str, int]:
    """The batch that should fit, by task."""
    from sid2core.models import cost
    from sid2core.models.execution import Remat
    from sid2core.models.network import Network
    from sid2core.plan import memory as plan

    built = Network(network)
    weights, state = plan.gradient_bytes(built.shapes()), plan.state_bytes(built.shapes())
    (kept,) = plan.activations(built, [Remat.NONE])
    needs = {
        "train": (state + weights, kept.total),
        "sample": (weights, plan.sampling_bytes(built)),
    }
    gflops = cost.forward_gflops(network)
    return {
        task: fitting(memory, fixed, each, flops / (1e9 * gflops * Row("", task, "").forwards()))
        for task, (fixed, each) in needs.items()
    }


def fitting(memory: int, fixed: int, each: int, rate: float) -> int:
    """The largest batch for the memory, and for ``LONGEST`` seconds at 40 % of ``rate``.

    Args:
        memory: of the device, in bytes.
        fixed: bytes beside the images.
        each: bytes for an image.
        rate: images a second at the peak.

    Returns:
        A multiple of 8, or 1.
    """
    from sid2core.plan.plan import USABLE

    most = min((USABLE * memory - fixed) / each, LONGEST * 0.4 * rate)
    return max(1, int(most) // 8 * 8)


def _measured(row: Row, about: Result) -> Result:
    """Run one row."""
    from sid2core.models import cost

    module = importlib.import_module(SIDES[row.side])
    found = module.describe()
    if found["platform"] != about["platform"]:
        raise RuntimeError(f"{row.side} runs on {found['platform']} alone")
    network, since = _networks(row.tiny)[row.network], time.perf_counter()
    batch, work = largest(row.batch, lambda batch: row.work(network, batch))
    start = time.perf_counter() - since
    seconds = list[float]()
    while len(seconds) < REPEATS or sum(seconds) < SECONDS:
        since = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - since)
    rate = batch / statistics.median(seconds)
    gflops, sheet = cost.forward_gflops(network), about["multiply_adds_per_second"]["data_sheet"]
    used = rate * row.forwards() * gflops * 1e9
    return {
        "batch": batch,
        "images_per_second": round(rate, 2),
        "mfu": None if sheet is None else round(used / sheet, 4),
        "peak_memory_mib": module.peak_memory_mib(),
        "gflops_forward": gflops,
        "seconds": [round(one, 5) for one in seconds],
        "seconds_to_start": round(start, 1),
        "operations": _operations(work) if row.side == "ours" else None,
    } | ({"torch": found["torch"]} if "torch" in found else {})


def largest(batch: int, make: Callable[[int], Work]) -> tuple[int, Work]:
    """The largest of ``batch``, its half, … that fits, and its work, which has run once.

    Raises:
        MemoryError: not even one image fits.
    """
    while batch:
        try:
            work = make(batch)
            work()
        except Exception as error:
            if not re.search("out of memory|RESOURCE_EXHAUSTED", f"{error}", re.IGNORECASE):
                raise
        else:
            return batch, work
        gc.collect()  # of what the error held
        batch //= 2
    raise MemoryError("not even one image fits")


def _operations(work: Work) -> list[dict[str, Any]]:
    """Those that take most time in one run of the work."""
    from sid2core.pipeline import profile

    with tempfile.TemporaryDirectory() as folder:
        with profile.traced(Path(folder), "row") as place:
            work()
        return profile.operations(place, TOP).to_dict("records")


if __name__ == "__main__":
    main()
