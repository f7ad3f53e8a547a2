"""Event files for TensorBoard: scalars, samples and hyperparameters of a training.

They are written if the extra ``tensorboard`` is installed. No result depends on them. The library
is tensorboardX: the writers of clu need TensorFlow or PyTorch. Its writer without a thread is used:
with one, a full disk would block the training.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sid2core import checksums
from sid2core.config import yaml_edit
from sid2core.pipeline import places, workdir
from sid2core.training.log import Log

FOLDER = "tensorboard"
"""In the work folder of the project: all trainings, each in a folder named as its own work."""
_SPEED = ("images_per_second", "data_wait_share", "peak_memory_mib", "utilisation")
_log = logging.getLogger(__name__)


@contextmanager
def opened(work: Path, log: Log, *, active: bool = True) -> Iterator[Callable[[], None]]:
    """A function that writes what is new in the log and among the samples of a training.

    It is called once more as the body ends. Without the extra, or if not ``active``, it does
    nothing. An error of the system ends the event file with a warning, not the training.

    Args:
        work: the folder of the training: its samples are there.
        log: of the training.
        active: of several processes one writes.
    """
    events: Events | None = None

    def write() -> None:
        nonlocal events, active
        try:
            if active:
                events = events or Events(work)
                events.write(log)
        except OSError as error:
            active = False
            _log.warning("no more event files for TensorBoard: %s", error)

    active = active and importlib.util.find_spec("tensorboardX") is not None
    try:
        yield write
    finally:
        write()
        if events is not None:
            with suppress(OSError):  # of what could not be written, which was reported
                events.close()


class Events:
    """The event file of one training.

    A resumed training writes its file anew: the log and the samples of the work folder are
    complete, so nothing is missing and nothing appears twice.
    """

    def __init__(self, work: Path):
        from tensorboardX.event_file_writer import EventsWriter

        folder = places.beside(FOLDER, work)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._work, self._step, self._shown = work, 0, set[int]()
        self._writer = EventsWriter(str(folder / "events"))
        self._hyperparameters()

    def write(self, log: Log) -> None:
        """Write the rows and samples that are new."""
        from tensorboardX import summary

        for row, speed in zip(log.rows, log.speed, strict=True):
            if row["step"] <= self._step:
                continue
            for name, value in (row | speed).items():
                if name != "step" and math.isfinite(value):
                    self._add(summary.scalar(_tag(str(name)), value), row["step"])
            self._step = row["step"]
        paths = {int(path.stem): path for path in self._work.glob("samples/*.png")}
        for step in sorted(paths.keys() - self._shown):
            self._shown.add(step)
            if checksums.whole(paths[step]):
                with Image.open(paths[step]) as image:
                    pixels = np.asarray(image.convert("RGB"))
                self._add(summary.image("samples", pixels, dataformats="HWC"), step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _add(self, content: Any, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(summary=content, step=step, wall_time=time.time()))

    def _hyperparameters(self) -> None:
        """The parameters that the work folder is for, or the one around it of a student's."""
        from tensorboardX import summary

        about = workdir.made_for(self._work) or workdir.made_for(self._work.parent) or {}
        values = _plain(dict(yaml_edit.leaves(about.get("params", {}))))
        if values:
            for part in summary.hparams(values, {"loss": None}):
                self._add(part, 0)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists and null as JSON text; TensorBoard knows numbers, truth values and text."""
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value)
        for name, value in values.items()
    }


def _tag(name: str) -> str:
    """``loss_logsnr_below_-5`` → ``loss/logsnr_below_-5``: TensorBoard groups by the slash."""
    if name.startswith("loss_logsnr"):
        return name.replace("_", "/", 1)
    return f"speed/{name}" if name in _SPEED else name
