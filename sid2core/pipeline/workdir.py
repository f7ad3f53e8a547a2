"""Work folders: where a long stage keeps what it has done so far, so that a kill loses nothing.

DVC deletes a stage's outputs before it runs the stage, so unfinished work lives outside them, in
``$SID2_WORK`` or ``$DVC_ROOT/.sid2``, under ``<stage>/<fingerprint>``. The fingerprint covers what
shapes the result (parameters, inputs, format) and nothing else: the same command finds its
unfinished work again, a changed one starts anew, and two experiments never mix.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sid2core.atomic import write_json
from sid2core.errors import Sid2Error
from sid2core.pipeline.artifact import Artifact, only_writer

FORMAT = 1
_log = logging.getLogger(__name__)


class WorkError(Sid2Error):
    """Another process already does this very work."""


def root() -> Path:
    """``$SID2_WORK``, else ``.sid2`` in the main repository (also from a temporary experiment)."""
    explicit = os.environ.get("SID2_WORK")
    return Path(explicit) if explicit else Path(os.environ.get("DVC_ROOT", ".")) / ".sid2"


def fingerprint(params: Mapping[str, Any], **inputs: Artifact) -> str:
    """A short hash of what shapes the result: parameters, input artifacts, work format."""
    value = {
        "format": FORMAT,
        "params": params,
        "inputs": {name: artifact.digest for name, artifact in inputs.items()},
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Path:
    """Where :func:`claim` keeps this very work."""
    return root() / stage / fingerprint(params, **inputs)


@contextmanager
def claim(stage: str, params: Mapping[str, Any], **inputs: Artifact) -> Iterator[Path]:
    """The work folder of this very work, locked; removed when the body ends well.

    ``SID2_FRESH=1`` in the environment discards what an earlier run left.

    Raises:
        WorkError: a living process holds the folder (an orphan of a killed ``dvc``, perhaps).
        ArtifactError: one holds the stage's artifact in this project, with other parameters.
    """
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
        if os.environ.get("SID2_FRESH") == "1":
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(exist_ok=True)
        write_json(place / "made_for.json", {"stage": stage, "params": dict(params)})
        _log.info("work folder %s", place)
        yield place
        shutil.rmtree(place)
