"""Prepare thousands of real files of many formats, sizes and modes, and account for every one.

    sudo python -m benchmarks.icons --install    # icon themes and pictures of Debian, once
    python -m benchmarks.icons                   # prepares them to 32 and 64 pixels

Each icon theme is a class, and so are backgrounds and the like. Files are counted by `find`, which
knows nothing of this project; the
records in the shards and the rows in the table of rejects must add up to them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "icons.json"
PACKAGES = (
    *("oxygen-icon-theme", "tango-icon-theme", "mate-icon-theme"),
    *("gnome-backgrounds", "mate-backgrounds", "tk8.6"),
)
SHARED = Path("/usr/share")
CLASSES = ("icons/*", "backgrounds", "pixmaps", "tcltk")
"""Folders below it."""
COMMAND = "python -m benchmarks.icons"


def main() -> None:
    """Install, or prepare and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install", action="store_true", help="apt-get install what is read")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    if options.install:
        apt = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        subprocess.run(apt, check=True)
        return
    with tempfile.TemporaryDirectory() as name:
        source = _linked(Path(name))
        files = _files(source)
        results = {size: _prepare(source, size, options.workers) for size in options.sizes}
    for size, found in results.items():
        print(f"{size} px: {len(files)} files = {found['records']} records + ", end="")
        print(f"{found['rejects']} rejects, {found['seconds']:.0f} s; reasons {found['reasons']}")
        if found["records"] + found["rejects"] != len(files):
            sys.exit("some files are not accounted for")
    formats = Counter(Path(name).suffix.lower() or "none" for name in files)
    value = {"command": COMMAND, "files": len(files), "extensions": dict(formats.most_common())}
    RESULT.write_text(json.dumps(value | {"sizes": results}, indent=2) + "\n", encoding="utf-8")


def _linked(root: Path) -> Path:
    """A folder of links to the class folders."""
    for pattern in CLASSES:
        for folder in SHARED.glob(pattern):
            if folder.is_dir():
                (root / folder.name).symlink_to(folder)
    return root


def _files(path: Path) -> list[str]:
    """Files below class folders or beside them, links followed, hidden names left out."""
    find = ["find", "-L", str(path), "-name", ".*", "-prune", "-o", "!", "-type", "d", "-print0"]
    found = subprocess.run(find, check=True, capture_output=True).stdout
    return [os.fsdecode(name) for name in found.split(b"\0") if name]


def _prepare(path: Path, size: int, workers: int | None) -> dict[str, object]:
    """Run the stage in a folder of its own; what came of it."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    folder = params["data"]["source"]["folder"]
    params["runtime"]["workers"] = workers
    params["data"] |= {
        "source": {"name": "folder", "folder": folder | {"path": str(path)}},
        "image_size": size,
        "channels": 3,
        "max_reject_fraction": 1.0,
        "shard_records": 1024,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(params, file)
        stage = [sys.executable, "-m", "stages.prepare"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        start = time.perf_counter()
        subprocess.run(stage, cwd=folder, env=environment, check=True)
        seconds = time.perf_counter() - start
        made = folder / "artifacts" / "prepare"
        with (made / "rejects.csv").open(encoding="utf-8", newline="") as file:
            reasons = Counter(row["reason"] for row in csv.DictReader(file))
        records = sum(pq.read_metadata(shard).num_rows for shard in made.glob("*.parquet"))
        return {
            "records": records,
            "rejects": reasons.total(),
            "seconds": round(seconds, 1),
            "reasons": dict(reasons.most_common(12)),
        }


if __name__ == "__main__":
    main()
