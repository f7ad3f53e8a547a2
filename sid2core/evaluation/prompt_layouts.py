"""Folders of samples as text-to-image benchmarks read them: GenEval and DPG-Bench.

Both have judges of their own, which are separate programs. An image of a prompt is a column of the
prompt grid (:mod:`sid2core.evaluation.prompt_grid`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sid2core import atomic
from sid2core.evaluation.prompts import Prompt, PromptError

IMAGES = 4
"""Images of a prompt in both benchmarks."""
Grid = NDArray[np.uint8]
"""[rows, columns, h, w, c]."""


def write(path: Path, layout: str, rows: Sequence[Prompt], grid: Grid) -> None:
    """Write the folder of a benchmark, or nothing.

    Args:
        path: where to; nothing may be there.
        layout: a key of :data:`LAYOUTS`.
        rows: the prompts.
        grid: their images.

    Raises:
        PromptError: something is there, or a row has too few images.
    """
    if grid.shape[1] < IMAGES:
        msg = f"a prompt has {grid.shape[1]} images; {layout} needs {IMAGES}: set eval.grid_columns"
        raise PromptError(f"{msg} to {IMAGES}, and run `dvc repro evaluate`")
    if path.exists():
        msg = f"{path} is there already; choose another place, or remove it yourself"
        raise PromptError(msg)
    with atomic.unfinished(path.resolve()) as made:
        made.mkdir()
        LAYOUTS[layout](made, rows, grid[:, :IMAGES])
        atomic.put(made, path.resolve())


def _geneval(folder: Path, rows: Sequence[Prompt], grid: Grid) -> None:
    """``<index>/metadata.jsonl`` and ``<index>/samples/0000.png`` to ``0003.png``."""
    for index, (row, images) in enumerate(zip(rows, grid, strict=True)):
        samples = folder / f"{index:05d}" / "samples"
        samples.mkdir(parents=True)
        about = {"prompt": row.text} if row.about is None else dict(row.about)
        line = json.dumps(about, ensure_ascii=False) + "\n"
        (samples.parent / "metadata.jsonl").write_text(line, encoding="utf-8")
        for number, image in enumerate(images):
            _save(image, samples / f"{number:04d}.png")


def _dpg(folder: Path, rows: Sequence[Prompt], grid: Grid) -> None:
    """``<prompt's name>.png``: four images in two rows of two."""
    names = [row.name or f"{index:05d}" for index, row in enumerate(rows)]
    for name, images in zip(names, grid, strict=True):
        _, height, width, channels = images.shape
        square = images.reshape(2, 2, height, width, channels).swapaxes(1, 2)
        _save(square.reshape(2 * height, 2 * width, channels), folder / f"{name}.png")


def _save(image: NDArray[np.uint8], path: Path) -> None:
    colours = np.broadcast_to(image, (*image.shape[:2], 3))
    Image.fromarray(np.ascontiguousarray(colours)).save(path)


LAYOUTS: Mapping[str, Callable[[Path, Sequence[Prompt], Grid], None]] = {
    "geneval": _geneval,
    "dpg": _dpg,
}
"""By the name of the benchmark."""
