"""Which stages run now and how far they are: a small file per process, for ``sid2 watch``.

The files are in the folder ``running`` of the work folder, which all experiments of a project
share. A file is written at most once a second and removed when its stage ends. What a killed
process left is removed by the next stage.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from sid2core.pipeline import places

_SECONDS = 1.0
_SMOOTHING = 0.3
"""Share of the newest rate in the rate that is shown."""
_ELSEWHERE_SECONDS = 3600.0
"""So long a stage of another machine is listed after its last sign."""
_log = logging.getLogger(__name__)
_stage: str | None = None


@dataclass
class Running:
    """The progress of a stage.

    Attributes:
        stage: its name.
        task: what it does now, such as ``student_8``.
        unit: of ``done`` and ``total``, such as ``step``.
        done: how many are done.
        total: how many there are.
        rate: units per second, smoothed; None until it is known.
        values: what the bar shows besides, such as the loss, as text.
        folder: where the stage runs; its ``reports/`` is there.
        experiment: the name of the DVC experiment, empty outside of one.
        host: the machine.
        pid: the process.
        created: when the process began, in seconds since 1970.
        updated: when this was written, in seconds since 1970.
    """

    stage: str
    task: str
    unit: str
    done: int
    total: int
    rate: float | None = None
    values: dict[str, str] = field(default_factory=dict)
    folder: str = field(default_factory=lambda: str(Path.cwd()))
    experiment: str = field(default_factory=lambda: os.environ.get("DVC_EXP_NAME", ""))
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    created: float = field(default_factory=lambda: psutil.Process().create_time())
    updated: float = field(default_factory=time.time)

    def alive(self) -> bool:
        """Whether its process runs; of another machine, whether it wrote within the last hour."""
        if self.host != socket.gethostname():
            return time.time() - self.updated < _ELSEWHERE_SECONDS
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created) < 1
        except psutil.NoSuchProcess:
            return False

    def seconds_left(self) -> float | None:
        """Time to the end of the task at the present rate."""
        return (self.total - self.done) / self.rate if self.rate else None


@contextmanager
def stage(name: str) -> Iterator[None]:
    """While the body runs, the bars of this process are reported as those of stage ``name``."""
    global _stage
    _stage = name
    try:
        yield
    finally:
        _stage = None
        _file().unlink(missing_ok=True)


class Report:
    """Writes the progress of one bar. Does nothing outside a stage."""

    def __init__(self, task: str, unit: str, total: int, done: int):
        self._active = _stage is not None
        self._written = (time.monotonic(), done)
        if self._active:
            self._state = Running(_stage or "", task, unit, done, total)
            _remove_dead()
            self._write()

    def add(self, count: float) -> None:
        """``count`` more units are done."""
        if not self._active:
            return
        self._state.done += int(count)
        since, before = self._written
        now = time.monotonic()
        if now - since >= _SECONDS or self._state.done >= self._state.total:
            newest = (self._state.done - before) / max(now - since, 1e-6)
            rate = self._state.rate
            share = 1.0 if rate is None else _SMOOTHING
            self._state.rate = share * newest + (1 - share) * (rate or 0.0)
            self._written = (now, self._state.done)
            self._write()

    def show(self, values: Mapping[str, object]) -> None:
        """From now on show these values, too."""
        if self._active:
            self._state.values = {name: str(value) for name, value in values.items()}

    def _write(self) -> None:
        self._state.updated = time.time()
        file = _file()
        temporary = file.with_suffix(".tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(asdict(self._state)), encoding="utf-8")
            temporary.replace(file)
        except OSError as error:
            self._active = False
            _log.warning("`sid2 watch` cannot follow %s: %s", self._state.task, error)


def listed() -> list[Running]:
    """The stages that run, in the order in which their processes began."""
    found = (_read(path) for path in _folder().glob("*.json"))
    alive = (one for one in found if one is not None and one.alive())
    return sorted(alive, key=lambda one: (one.created, one.pid))


def _read(path: Path) -> Running | None:
    """None where the file is gone, or is of another version of this project."""
    try:
        return Running(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _remove_dead() -> None:
    for path in _folder().glob("*.json"):
        one = _read(path)
        if one is None or not one.alive():
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return places.work() / "running"


def _file() -> Path:
    return _folder() / f"{socket.gethostname()}-{os.getpid()}.json"
