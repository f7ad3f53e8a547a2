"""What formats with a drawing program have in common: its files, and the null condition."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from sid2core import atomic
from sid2core.exporting import cases
from sid2core.exporting.exported import Exported
from sid2core.exporting.formats import FILES

DRAW, NULL, REQUIREMENTS = "draw.py", "null.npz", "requirements.txt"


def write(
    exported: Exported, folder: Path, program: str, others: Sequence[str], packages: Sequence[str]
) -> None:
    """Write the program as ``draw.py`` with what it needs, and the null condition of one example.

    Args:
        exported: the model.
        folder: of the export.
        program: a file in ``files/``.
        others: further files there, which it imports.
        packages: what it imports; ``requirements.txt`` has their versions here.
    """
    shutil.copy(FILES / program, folder / DRAW)
    text = exported.trained.condition.text is not None
    for name in ("options.py", *others, *["tokens.py"] * text):
        shutil.copy(FILES / name, folder)
    versions = (f"{one}=={metadata.version(one)}" for one in [*packages, *["tokenizers"] * text])
    atomic.write_text(folder / REQUIREMENTS, "".join(f"{line}\n" for line in versions))
    null = cases.arrays(exported.trained.condition.null(1))
    np.savez(folder / NULL, **null)  # type: ignore[arg-type]


def use(exported: Exported) -> str:
    """How to draw, in Markdown."""
    spec, what = exported.trained.condition, "--count 8"
    if spec.text is not None:
        what = '--prompt "…"'
    elif spec.given is not None:
        what = "--given frames.npy"
    elif spec.label is not None:
        what = f"--class {shlex.quote([*exported.class_names, '0'][0])} --count 8"
    return f"""\
```sh
pip install -r {REQUIREMENTS}
python {DRAW} {what} --out drawn.png
python {DRAW} --help
```
"""
