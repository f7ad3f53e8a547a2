"""DVC's queue of experiments: adding to it, its workers, and what it does now.

Commands of DVC do all the work; its queue is only read here, because ``dvc queue status`` sends
messages to the workers, which can end them on a busy machine (issue 10428 of DVC).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from sid2core.config import yaml_edit
from sid2core.pipeline import running
from sid2core.studies import experiments
from sid2core.studies.errors import StudyError
from sid2core.studies.planning import State
from sid2core.studies.runs import Run

_SILENT_SECONDS = 120.0
"""So long a task may have no process of its own while a worker lives: it is set up or collected."""
_CELERY = Path(".dvc/tmp/exps/celery")


class Queue:
    """The queue of the project in the current folder.

    Raises:
        StudyError: the folder is not a DVC repository.
    """

    def __init__(self) -> None:
        from dvc.exceptions import DvcException  # slow to import
        from dvc.repo import Repo
        from kombu.exceptions import KombuError

        try:
            self._queue = Repo().experiments.celery_queue
        except DvcException as error:
            msg = f"{Path.cwd()} is not a DVC repository ({error}); run from the project's root"
            raise StudyError(msg) from None
        self._silent: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._half_written = (ValueError, KombuError, FileNotFoundError)

    def state(self) -> State | None:
        """What is finished, waiting and active; None where a file was being written just now."""
        finished = frozenset(experiments.finished())
        try:
            waiting = frozenset(one.name for one in self._queue.iter_queued() if one.name)
            entries = list(self._queue.iter_active())
            self._failed = {one.name: one.stash_rev for one, _ in self._queue.iter_failed()}
        except self._half_written:
            return None
        stages = {one.experiment: one.stage for one in running.listed()}
        active = {one.name: stages.get(one.name, "") for one in entries if self._alive(one)}
        return State(finished, waiting - finished, _without(active, finished))

    def failed(self, names: Iterable[str]) -> dict[str, str]:
        """Those of ``names`` that had failed at the last look → the end of what they printed."""
        known = [name for name in names if name in self._failed]
        return {name: self._end_of_log(self._failed[name]) for name in known}

    def put(self, run: Run, params: Mapping[str, Any]) -> None:
        """Add a run, as ``dvc exp run --queue`` does.

        Args:
            run: the run.
            params: the present contents of ``params.yaml``, which it changes.

        Raises:
            StudyError: DVC refuses it.
        """
        line = ["exp", "run", "--queue", "--name", run.name, "--message", run.message]
        for setting in settings(params, run.overlay):
            line += ["--set-param", setting]
        dvc([*line, run.target])

    def remove(self, names: Iterable[str]) -> None:
        """Remove waiting, failed and lost tasks of these names."""
        from dvc.repo.experiments.queue.remove import remove_tasks

        chosen = set(names)
        for entry in list(self._queue.iter_active()):
            if entry.name in chosen and not self._alive(entry):
                self._forget(entry)
        waiting = [one for one in self._queue.iter_queued() if one.name in chosen]
        failed = [one for one, _ in self._queue.iter_failed() if one.name in chosen]
        if found := [*waiting, *failed]:
            remove_tasks(self._queue, found)

    def start(self, jobs: int) -> None:
        """Start workers until there are ``jobs``."""
        dvc(["queue", "start", "--jobs", str(jobs)])

    def workers(self) -> int:
        """How many workers live."""
        pids = [_json(path).get("pid") for path in _CELERY.glob("dvc-exp-worker-*.json")]
        return sum(_runs(pid, "queue-worker") for pid in pids)

    def _alive(self, entry: Any) -> bool:
        """Whether a process or a worker still has this task."""
        process = self._queue.proc.get(entry.stash_rev)
        if process is not None and _runs(process.pid, "exec-run"):
            self._silent.pop(entry.stash_rev, None)
            return True
        since = self._silent.setdefault(entry.stash_rev, time.monotonic())
        return self.workers() > 0 and time.monotonic() - since < _SILENT_SECONDS

    def _forget(self, entry: Any) -> None:
        """Remove the message of a task whose worker died; it has no result to remove."""
        for message, other in list(self._queue._iter_processed()):
            if other == entry and message.delivery_tag:
                self._queue.celery.purge(message.delivery_tag)

    def _end_of_log(self, revision: str) -> str:
        process = self._queue.proc.get(revision)
        if process is None:
            return "it could not be set up"
        try:
            text = Path(process.stdout).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"its log cannot be read: {error}"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-3:]) or "it printed nothing"


def settings(params: Mapping[str, Any], overlay: Mapping[str, Any]) -> list[str]:
    """``KEY=VALUE`` of each value that differs, in the grammar of ``--set-param``."""
    before = dict(yaml_edit.leaves(params))
    return [
        f"{key}={_hydra(value)}"
        for key, value in yaml_edit.leaves(overlay)
        if key not in before or json.dumps(before[key]) != json.dumps(value)
    ]


def _hydra(value: Any) -> str:
    """A value in Hydra's grammar; text is always quoted."""
    if isinstance(value, str):
        text = value.replace("\\'", "\\\\'").replace("'", "\\'")
        return f"'{text}'"
    if isinstance(value, list):
        return f"[{','.join(map(_hydra, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def dvc(arguments: Sequence[str]) -> None:
    """Run a command of DVC; stages find the Python that runs this.

    Raises:
        StudyError: it fails.
    """
    code, text = executed([sys.executable, "-m", "dvc", *arguments])
    if code:
        lines = text.strip().splitlines() or ["no reason given"]
        reason = [line for line in lines if line.startswith("ERROR")] or lines
        msg = f"dvc {' '.join(arguments[:2])} failed: {reason[-1]}"
        raise StudyError(msg)


def executed(line: Sequence[str]) -> tuple[int, str]:
    """Run a command to its end, in a session of its own; returns its exit code and its output.

    What it leaves running in the background, such as workers, is not waited for, although it has
    the same output; and Ctrl-C does not reach it.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        done = subprocess.run(
            line,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
        output.seek(0)
        return done.returncode, output.read()


def _without(active: Mapping[str, str], finished: frozenset[str]) -> dict[str, str]:
    return {name: stage for name, stage in active.items() if name not in finished}


def _runs(pid: object, word: str) -> bool:
    """Whether a process of this number lives and has ``word`` in its command line."""
    if not isinstance(pid, int):
        return False
    try:
        return word in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is just being written, or gone
        return {}
    return value if isinstance(value, dict) else {}
