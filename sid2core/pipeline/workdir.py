"""Work folders: where a long stage keeps what it has done, so that a kill loses nothing.

DVC deletes a stage's outputs before it runs the stage, so unfinished work is outside them, in
``$SID2_WORK`` or ``$DVC_ROOT/.sid2``, under ``<stage>/<fingerprint>``. The fingerprint covers what
shapes the result (parameters, inputs, format): the same command finds its unfinished work again, a
changed one starts from the beginning, and two experiments never mix.

Work of other code is never reused silently. Of a stage that draws or converts in chunks
(:func:`claim`) the fingerprint covers its program, too: other code computes them again. A training
(:func:`claim_training`) costs too much for that: it stops and asks whether to continue or to start
again.

A finished stage may still lose its outputs: DVC hashes and copies them after the stage has ended,
and if that fails it removes them at the next attempt. So finished work stays until a later run of
any stage finds it recorded by DVC (:func:`prune`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sid2core import checksums
from sid2core.errors import Sid2Error
from sid2core.pipeline import artifact, code, places, recorded, verified
from sid2core.pipeline.artifact import Artifact, only_writer

FORMAT = 2
KEPT_DAYS = 7
"""So long finished work stays where DVC has no record of it, for example after a run by hand."""
_ABOUT, _FINISHED = "made_for.json", "finished.json"
_COPY = f"{_ABOUT}.copy"
"""Read where the first is damaged: without it nobody knows whose code has trained so far."""
_CODE = "code"
_NAMED = 3
_log = logging.getLogger(__name__)

root = places.work


class WorkError(Sid2Error):
    """This work cannot be done now: another process does it, or other code began it."""


def fingerprint(params: Mapping[str, Any], **inputs: Artifact) -> str:
    """A short hash of what shapes the result: parameters, input artifacts, work format."""
    value = {
        "format": FORMAT,
        "params": params,
        "inputs": {name: artifact.digest for name, artifact in inputs.items()},
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Path:
    """The work folder for these parameters and inputs."""
    return root() / stage / fingerprint(params, **inputs)


def with_code(stage: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` and the hash of the stage's program."""
    return {**params, _CODE: code.running(stage).digest}


def of_this_code(place: Path, stage: str) -> Path:
    """A folder below ``place`` for what other code must compute again, also in a training."""
    return place / code.running(stage).digest[:16]


@contextmanager
def claim(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Iterator[Path]:
    """The locked work folder of this work, done by this code; it stays when the body ends.

    Of the same work done by other code nothing is used, and its folder is removed.
    ``SID2_FRESH=1`` in the environment discards what an earlier run left.

    Raises:
        WorkError: a living process holds the folder (an orphan of a killed ``dvc``, perhaps).
        ArtifactError: one holds the stage's artifact in this project, with other parameters.
    """
    with _claimed(stage, with_code(stage, params), inputs) as place:
        _remove_superseded(place)
        yield place


@contextmanager
def claim_training(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Iterator[Path]:
    """The same for a training, whatever code did it so far.

    Raises:
        WorkError: as :func:`claim`; or other code has worked in the folder, and neither
            ``SID2_CONTINUE=1`` nor ``SID2_FRESH=1`` says what to do.
        ArtifactError: as :func:`claim`.
    """
    with _claimed(stage, params, inputs) as place:
        yield place


def prune() -> None:
    """Remove finished work that DVC has recorded, and what is older than ``KEPT_DAYS``.

    Folders that are in use are left alone. Every long stage calls this as it starts.
    """
    for mark in root().glob(f"*/*/{_FINISHED}"):
        lock = FileLock(mark.parent.with_suffix(".lock"))
        try:
            with lock.acquire(timeout=0):
                if _is_done_with(mark):
                    _log.info("%s is no longer needed", mark.parent)
                    shutil.rmtree(mark.parent, ignore_errors=True)
        except Timeout:
            continue
    verified.prune()


def _is_done_with(mark: Path) -> bool:
    """Whether DVC has recorded the result that finished here, or nothing will."""
    try:
        finished = mark.stat().st_mtime
    except FileNotFoundError:  # another process has just removed it
        return False
    if time.time() - finished > KEPT_DAYS * 24 * 3600:
        return True
    about = checksums.read_json(mark)
    return about is not None and recorded.has(about["stage"], about["manifest"], finished)


@contextmanager
def _claimed(
    stage: str, params: Mapping[str, Any], inputs: Mapping[str, Artifact]
) -> Iterator[Path]:
    place = folder(stage, params, **inputs)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_suffix(".lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        msg = (
            f"{stage} with these parameters is already running in another process "
            f"(its lock is {place.with_suffix('.lock')}); wait for it, or stop that process"
        )
        raise WorkError(msg) from None
    with held, only_writer(stage):
        _begin(place, stage, params, inputs)
        yield place
        manifest = artifact.ROOT / stage / artifact.MANIFEST
        digest = recorded.md5(manifest) if manifest.exists() else None
        checksums.write_json(place / _FINISHED, {"stage": stage, "manifest": digest})


def _begin(
    place: Path, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Artifact]
) -> None:
    """Check whose work lies in the folder, and note that it is this code's from now on."""
    program = code.running(stage)
    mark, about = place / _FINISHED, made_for(place)
    if os.environ.get("SID2_FRESH") == "1" or (mark.exists() and _is_done_with(mark)):
        shutil.rmtree(place, ignore_errors=True)
    elif place.is_dir() and any(not path.name.startswith(_ABOUT) for path in place.iterdir()):
        others = ""
        if about is not None:
            others = _named(program.differences(about.get(_CODE, {})))
        elif _CODE not in params:
            others = f"unknown ones, since {_ABOUT} and its copy are damaged,"
        if others and os.environ.get("SID2_CONTINUE") != "1":
            msg = (
                f"{stage}: the work in {place} was done by other code: {others} differ. "
                "Set SID2_CONTINUE=1 to continue it with the present code, or SID2_FRESH=1 to "
                "start again from the beginning"
            )
            raise WorkError(msg)
        if others:
            _log.warning("continuing work of other code: %s differ", others)
        if mark.exists():
            _log.info("this work is finished, but not recorded by DVC: its result is used")
            checksums.remove(mark)
    place.mkdir(exist_ok=True)
    about = {
        "stage": stage,
        "params": dict(params),
        "inputs": {name: one.digest for name, one in inputs.items()},
        _CODE: program.to_json(),
    }
    for name in (_ABOUT, _COPY):
        checksums.write_json(place / name, about)
    _log.info("work folder %s", place)


def made_for(place: Path) -> Any:
    """What a work folder was made for, with its ``params``; None if no whole file says it."""
    return checksums.read_json(place / _ABOUT) or checksums.read_json(place / _COPY)


def _remove_superseded(place: Path) -> None:
    """Remove the folders of the same work that other code left, unless a process uses them."""

    def work(path: Path) -> Any:
        about = made_for(path) or {}
        params = {key: value for key, value in about.get("params", {}).items() if key != _CODE}
        return params, about.get("inputs")

    own = work(place)
    for other in place.parent.iterdir():
        if other.is_dir() and other != place and work(other) == own:
            try:
                with FileLock(other.with_suffix(".lock")).acquire(timeout=0):
                    shutil.rmtree(other, ignore_errors=True)
            except Timeout:
                continue


def _named(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
