"""``sid2 samples``: export the samples that ``evaluate`` kept."""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sid2core.errors import Sid2Error

if TYPE_CHECKING:  # slow to import
    from sid2core.metrics.sample_files import Chunk
    from sid2core.pipeline.artifact import Artifact

_BYTES = 2**24  # approximate size of the images in memory at once


class SamplesError(Sid2Error):
    """There are no such samples, or no output path is given."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("sampler", metavar="SAMPLER", nargs="?", help="the sampler's name")
    what.add_argument("--list", action="store_true", help="a table of all samplers")
    parser.add_argument(
        "--out", metavar="PATH", type=Path, help="a file for npz or parquet, else a folder"
    )
    parser.add_argument(
        "--format",
        metavar="FORM",
        help="png, npz or parquet, of clips npz, parquet, webp, gif, mp4 or frames; default: as "
        "PATH ends, else png, of clips npz",
    )
    parser.add_argument(
        "--rate", metavar="N", type=float, default=8.0, help="frames a second of clips that play"
    )
    parser.add_argument(
        "--layout",
        choices=("geneval", "dpg"),
        help="the samples of eval.prompts, as a folder of GenEval or DPG-Bench",
    )
    parser.add_argument("--force", action="store_true", help="replace what is at PATH")


def run(options: argparse.Namespace) -> None:
    """Print the table, or write the files and print the number of samples."""
    from sid2core.pipeline import artifact

    if options.out is None and not options.list:
        msg = f"no output path for the samples of {options.sampler}; give --out PATH"
        raise SamplesError(msg)
    evaluate = artifact.load("evaluate")
    if options.list:
        print("\n".join(_table(evaluate)))
    elif options.layout is not None:
        _lay_out(evaluate, options)
    else:
        _export(evaluate, options)


def _table(evaluate: Artifact) -> Iterator[str]:
    names = evaluate.metadata["samplers"]
    width = max(map(len, names))
    for name in names:
        count, *shape = _shape(evaluate.path(f"{name}.npz"))
        yield f"{name:{width}}  {count:>8,} samples of {'x'.join(map(str, shape))}"


def _export(evaluate: Artifact, options: argparse.Namespace) -> None:
    from sid2core.metrics import sample_files

    path = _samples(evaluate, options.sampler)
    count, *shape = _shape(path)
    form = sample_files.form_of(options.out, options.format, clips=len(shape) == 4)
    if not count:
        msg = f"{path} has no samples: raise eval.keep, and run `dvc repro evaluate`"
        raise SamplesError(msg)
    names = _class_names(evaluate) if form == "parquet" else ()
    samples = sample_files.Samples(count, tuple(shape), names, _chunks(path), options.rate)
    sample_files.write(options.out, samples, form, force=options.force)
    print(f"{options.out}: {count:,} samples of {options.sampler} as {form}")


def _lay_out(evaluate: Artifact, options: argparse.Namespace) -> None:
    import numpy as np

    from sid2core.evaluation import prompt_layouts
    from sid2core.evaluation.prompts import FILE, Prompt

    stored = evaluate.metadata.get("prompts")
    if stored is None:
        msg = "no samples of prompts: set eval.prompts, and run `dvc repro evaluate`"
        raise SamplesError(msg)
    with np.load(evaluate.path(FILE), allow_pickle=False) as grids:
        if options.sampler not in grids:
            msg = f"no sampler {options.sampler!r} drew prompts; there are {', '.join(grids)}"
            raise SamplesError(msg)
        grid = grids[options.sampler]
    rows = [Prompt(**one) for one in stored]
    prompt_layouts.write(options.out, options.layout, rows, grid)
    print(f"{options.out}: {len(rows):,} prompts of {options.sampler} as {options.layout}")


def _samples(evaluate: Artifact, sampler: str) -> Path:
    names = evaluate.metadata["samplers"]
    if sampler in names:
        return evaluate.path(f"{sampler}.npz")
    if sampler in evaluate.metadata.get("named", ()):
        msg = f"samples of {sampler!r} are not kept: it is one of eval.samplers"
        raise SamplesError(f"{msg}; `sid2 samples --list` shows the others")
    near = difflib.get_close_matches(sampler, names, n=1)
    hint = f"; the nearest is {near[0]}" if near else ""
    msg = f"no sampler {sampler!r}{hint}; `sid2 samples --list` shows all {len(names)}"
    raise SamplesError(msg)


def _shape(path: Path) -> tuple[int, ...]:
    """The shape of the images in the npz, from their header."""
    import zipfile

    import numpy as np

    with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file)[0]


def _chunks(path: Path) -> Iterator[Chunk]:
    import math

    from sid2core.data.storage import npy

    found = [npy.located(str(path), (name,)) for name in ("images", "labels")]
    images, labels = (npy.mapped(stored) for stored in found if stored is not None)
    size = max(1, _BYTES // math.prod(images.shape[1:]))
    for start in range(0, len(images), size):
        yield images[start : start + size], labels[start : start + size]


def _class_names(evaluate: Artifact) -> tuple[str, ...]:
    """The class names of the data set's manifest; its images are not needed and not checked."""
    from sid2core.pipeline import artifact

    path = artifact.ROOT / "prepare" / artifact.MANIFEST
    cure = "run `dvc repro evaluate`, or write png or npz, which need no class names"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        msg = f"{path} not found; Parquet needs its class names; {cure}"
        raise SamplesError(msg) from None
    if hashlib.sha256(raw).hexdigest() != evaluate.manifest["inputs"]["prepare"]:
        msg = f"{path} is not the manifest of the data that the samples were made from; {cure}"
        raise SamplesError(msg)
    return tuple(json.loads(raw)["metadata"]["class_names"])
