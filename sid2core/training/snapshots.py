"""EMA weights of chosen steps of a training: the worse model of autoguidance, and averages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sid2core import atomic, checksums
from sid2core.models import network
from sid2core.training import cluster
from sid2core.training.mesh import Layout

FOLDER = "snapshots"
"""In ``artifacts/train``."""


def name(step: int, average: str | None = None) -> str:
    """The file of a snapshot: of the EMA that later stages use, or of a further average."""
    return f"{step:08d}.safetensors" if average is None else f"{step:08d}.{average}.safetensors"


def steps(files: Iterable[str]) -> list[int]:
    """The steps of the snapshots among the files of ``artifacts/train``, ascending."""
    found = (re.fullmatch(rf"{FOLDER}/(\d+)\.safetensors", file) for file in files)
    return sorted(int(one[1]) for one in found if one)


@dataclass(frozen=True)
class Snapshots:
    """Writes the averages of a state at ``steps`` to a folder that survives a kill.

    Attributes:
        steps: after how many updates, ascending.
        averages: the names of the further averages.
        layout: where the weights are.
        kept: the folder.
    """

    steps: Sequence[int]
    averages: Sequence[str]
    layout: Layout
    kept: Path

    def __call__(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the averages of ``state``; called by all processes at each of ``steps``."""
        ema, emas = self.layout.host((state["ema"], state["emas"]))
        if not cluster.first():
            return
        for average, weights in [(None, ema), *emas.items()]:
            path = self.kept / name(step, average)
            network.save_weights(path, weights)
            checksums.seal(path)

    def missing_from(self) -> int | None:
        """The first step whose files are missing or damaged.

        Every checkpoint of this step and later is one of a training that had written them.
        """
        return next(
            (step for step in self.steps if not all(map(checksums.whole, self.files(step)))), None
        )

    def copy(self, folder: Path) -> None:
        """Copy all files to :data:`FOLDER` in ``folder``, whose manifest has their sizes."""
        for path in (path for step in self.steps for path in self.files(step)):
            atomic.write_bytes(folder / FOLDER / path.name, path.read_bytes())

    def files(self, step: int) -> list[Path]:
        """The files of a snapshot."""
        return [self.kept / name(step, average) for average in (None, *self.averages)]
