"""An epoch of shuffled batches, as training gets them, beside other ways to read the same images.

    python -m benchmarks.loader [--only 64x64 waiting] [--images 4096]

Ours comes from Parquet: from the cache, as where a data set fits, and with every row group read, as
in its first epoch and in each one of a data set that does not fit. Grain reads the same Parquet,
PyTorch's DataLoader decodes files in two processes, and NumPy gathers random rows of a memory map:
the ceiling. All files are in the system's page cache. "waiting" is the embedded default's own train
step: with the loader, and with a batch that is already there.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import common, pictures
from benchmarks.common import Contender

SIDES = {"64x64": 64, "256x256": 256}
PIXELS = 2**25
"""Of all images of one size together, unless their number is given."""
BATCH, STEPS = 64, 200
CEILING, READY, WAITING = "memmap", "one batch, at hand", "waiting"
HOST = {"JAX_PLATFORMS": "cpu"}
"""Reading is the host's work; on an accelerator machine it is measured as well."""


def readers(folder: Path, batch: int) -> list[Contender]:
    """Ours first: it says which device counts."""
    shared = {"folder": str(folder), "batch": batch}
    rows = [
        ("ours, cached", "ours", shared | {"fresh": False}),
        ("ours, read", "ours", shared | {"fresh": True}),
        ("grain, Parquet", "grain", shared),
        ("torch, JPEG files", "torch", shared | {"kind": "jpg"}),
        ("torch, PNG files", "torch", shared | {"kind": "png"}),
        (CEILING, "memmap", shared),
    ]
    return [
        Contender(name, f"benchmarks.readers:{make}", arguments, make == "ours", HOST)
        for name, make, arguments in rows
    ]


def reading(name: str, options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds an epoch takes, and images a second."""
    side = SIDES[name]
    count = options.images or PIXELS // side**2
    with tempfile.TemporaryDirectory() as folder:
        pictures.write(Path(folder), count, side)
        seconds, metadata = common.race(
            readers(Path(folder), BATCH), options.rounds, options.threads
        )
    rows = common.summary(seconds, CEILING)
    for row in rows.values():
        row["images_per_second"] = count / row["median"]
        row["utilisation"] = 1 / row["ratio"]
    common.show(f"{name} RGB, {count} images, batch {BATCH}, ms an epoch", rows, CEILING)
    for contender, row in rows.items():
        print(f"  {contender:34}{row['images_per_second']:>12,.0f} images/s")
    return {"images": count, "batch": BATCH, "contenders": rows}, metadata


def waiting(options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds that the embedded default's steps take, and the share its log calls waiting."""
    with tempfile.TemporaryDirectory() as folder:
        pictures.write_digits(Path(folder))
        shared = {"folder": folder, "steps": STEPS}
        field = [
            Contender(
                *(name, "benchmarks.readers:steps", shared | more),
                tuned=True,
                environment={"TQDM_DISABLE": "1"},
            )
            for name, more in (
                ("prefetch 2", {"prefetch": 2}),
                ("prefetch 0", {"prefetch": 0}),
                (READY, {"prefetch": None}),
            )
        ]
        seconds, metadata = common.race(field, options.rounds, options.threads)
        logs = {path.stem: json.loads(path.read_text()) for path in Path(folder).glob("*.json")}
    rows = common.summary(seconds, READY)
    common.show(f"embedded default, {STEPS} steps, ms", rows, READY)
    for contender, row in rows.items():
        if contender in logs:
            row["data_wait_share"] = statistics.median(logs[contender])
            print(f"  {contender:34}{row['data_wait_share']:>11.2%} waiting by the log")
    return {"steps": STEPS, "contenders": rows}, metadata


def main() -> None:
    """Measure, print, write."""
    parser = common.arguments(__doc__ or "", rounds=7)
    parser.add_argument("--images", type=int, help="how many of each size")
    options = parser.parse_args()
    results, metadata = {}, {}
    for name in common.chosen([*SIDES, WAITING], options.only):
        results[name], found = waiting(options) if name == WAITING else reading(name, options)
        metadata |= found
    common.write("loader", metadata | {"threads": options.threads}, results)


if __name__ == "__main__":
    main()
