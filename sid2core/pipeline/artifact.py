"""Artifact folders: what a stage hands to the next, with a manifest that says what made it.

A folder ``artifacts/<stage>/`` holds files and ``manifest.json``: the stage, its parameters, the
manifests it was made from (by SHA-256), library versions, counts, and the SHA-256 of every file.
Loading checks the manifest and the size of every file, so a truncated or swapped folder stops a
stage at once. A file's SHA-256 is checked when its path is first asked for, and remembered
(:mod:`sid2core.pipeline.verified`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sid2core import atomic
from sid2core.errors import Sid2Error, of_system
from sid2core.pipeline import verified
from sid2core.pipeline.verified import sha256

ROOT = Path("artifacts")
MANIFEST = "manifest.json"
FORMAT = 1
_VERSIONS = ("jax", "flax", "optax", "numpy")


class ArtifactError(Sid2Error):
    """An artifact is missing, damaged, being written, or was not made from the inputs beside it."""


@dataclass(frozen=True)
class Artifact:
    """An artifact folder; what is read of it is checked first."""

    folder: Path
    """Where it lies; files are reached by :meth:`path` and :meth:`checked`, which check them."""
    manifest: Mapping[str, Any]
    digest: str
    """SHA-256 of the manifest file, hence of everything in the folder."""

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return str(self.manifest["stage"])

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the stage wished its readers to know: counts, shapes, scores."""
        return metadata_of(self.manifest)

    def path(self, name: str) -> Path:
        """The file ``name`` of this artifact, its content checked.

        Raises:
            ArtifactError: the manifest lists no such file, or its SHA-256 is another one.
        """
        path = self.unchecked(name)
        expected = self.manifest["files"][name]["sha256"]
        try:
            actual = verified.checked(path, self.folder, expected)
        except OSError as error:
            msg = of_system(error) or f"{path} cannot be read ({error}); {_cure(self.stage)}"
            raise ArtifactError(msg) from error
        if actual != expected:
            msg = (
                f"{path} has SHA-256 {_short(actual)}, its manifest says {_short(expected)}; "
                f"{_cure(self.stage)}"
            )
            raise ArtifactError(msg)
        return path

    def unchecked(self, name: str) -> Path:
        """The file ``name``; who opens it checks it by :meth:`path` before its content is used.

        Raises:
            ArtifactError: the manifest lists no such file.
        """
        if name not in self.manifest["files"]:
            msg = f"{self.folder} has no file {name}; it holds {sorted(self.manifest['files'])}"
            raise ArtifactError(msg)
        return self.folder / name

    def checked(self, name: str = "") -> Path:
        """The folder ``name`` of this artifact, or all of it, every file below it checked.

        Raises:
            ArtifactError: there is no such folder, or the SHA-256 of a file is another one.
        """
        below = f"{name}/" if name else ""
        files = [file for file in self.manifest["files"] if file.startswith(below)]
        if not files:
            msg = f"{self.folder} has no folder {name}; it holds {sorted(self.manifest['files'])}"
            raise ArtifactError(msg)
        for file in files:
            self.path(file)
        return self.folder / name


def load(stage: str, *, root: Path | None = None, **inputs: Artifact) -> Artifact:
    """Read the manifest of ``stage``'s artifact and check what it says.

    Every file must have the manifest's size, and the manifest must name each of ``inputs``
    (stage → artifact, as loaded beside it) as what it was made from.

    Raises:
        ArtifactError: with what was found, what was expected and the command that cures it.
    """
    folder = (root or ROOT) / stage
    cure = _cure(stage)
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        files, _ = manifest["files"], manifest["inputs"]
        found = (manifest["format"], manifest["stage"])
    except FileNotFoundError:
        msg = f"{folder / MANIFEST} not found; {cure}"
        if root is None and not ROOT.exists() and not Path("dvc.yaml").exists():
            msg = f"{folder} not found in {Path.cwd()}; run from the project's root"
        raise ArtifactError(msg) from None
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{folder / MANIFEST} cannot be read ({error!r}); {cure}"
        raise ArtifactError(msg) from None
    if found != (FORMAT, stage):
        msg = f"{folder} holds format {found[0]} of stage {found[1]}; expected {FORMAT} of {stage}"
        raise ArtifactError(f"{msg}; {cure}")
    for name, expected in files.items():
        _check_file(folder / name, expected, cure)
    made = Artifact(folder, manifest, hashlib.sha256(raw).hexdigest())
    check_origins(made, inputs)
    return made


def check_origins(made: Artifact, inputs: Mapping[str, Artifact]) -> None:
    """Check that ``made`` was made from ``inputs`` (stage → artifact).

    Raises:
        ArtifactError: its manifest names another one of them, or none.
    """
    for name, artifact in inputs.items():
        named = made.manifest["inputs"].get(name)
        if named != artifact.digest:
            msg = (
                f"{made.folder} was made from {name} {_short(named)}, but {artifact.folder} is "
                f"{_short(artifact.digest)}; one of them was swapped; {_cure(made.stage)}"
            )
            raise ArtifactError(msg)


def _cure(stage: str) -> str:
    return f"run `dvc repro {stage}` to make it again"


def _check_file(path: Path, expected: Mapping[str, Any], cure: str) -> None:
    if not path.is_file():
        msg = f"{path} is listed in its manifest but missing; {cure}"
        raise ArtifactError(msg)
    size = path.stat().st_size
    if size != expected["bytes"]:
        msg = f"{path} has {size} bytes, its manifest says {expected['bytes']}; {cure}"
        raise ArtifactError(msg)


@dataclass
class Draft:
    """An artifact under construction in a temporary folder."""

    folder: Path
    metadata: dict[str, Any] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where to write the file ``name``; folders on the way are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def metadata_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata in a manifest; earlier versions called them ``facts``."""
    found: Mapping[str, Any] = manifest["metadata" if "metadata" in manifest else "facts"]
    return found


@contextmanager
def create(
    stage: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, Artifact] | None = None,
    *,
    root: Path | None = None,
) -> Iterator[Draft]:
    """Write the artifact of ``stage``: all of it, or nothing.

    The body writes files through the draft and fills ``draft.metadata`` (JSON values). On leaving,
    the manifest is written and the folder takes the place of an earlier one; if the body raises,
    the earlier one stays as it was.

    Raises:
        ArtifactError: another process is writing it.
    """
    base = root or ROOT
    with only_writer(stage, root=root):
        target, draft = base / stage, Draft(base / f".{stage}.draft")
        shutil.rmtree(draft.folder, ignore_errors=True)
        draft.folder.mkdir()
        try:
            yield draft
            _write_manifest(draft, stage, params, inputs or {})
            atomic.put(draft.folder, target)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)


@contextmanager
def only_writer(stage: str, *, root: Path | None = None) -> Iterator[None]:
    """Hold the right to write the artifact of ``stage`` in this project's folder.

    A long stage takes it before its work, :func:`create` in any case; this process may hold it
    more than once.

    Raises:
        ArtifactError: another process holds it, with any parameters.
    """
    base = root or ROOT
    base.mkdir(parents=True, exist_ok=True)
    path = base.absolute() / f".{stage}.lock"
    try:
        held = FileLock(path, is_singleton=True).acquire(timeout=0)
    except Timeout:
        msg = (
            f"another process is making {base / stage} (its lock is {path}), perhaps of other "
            "parameters; wait for it, or stop that process"
        )
        raise ArtifactError(msg) from None
    with held:
        yield


def _write_manifest(
    draft: Draft, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Artifact]
) -> None:
    paths = sorted(path for path in draft.folder.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT,
        "stage": stage,
        "params": dict(params),
        "inputs": {name: artifact.digest for name, artifact in sorted(inputs.items())},
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        "metadata": draft.metadata,
        "files": {
            path.relative_to(draft.folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
            for path in paths
        },
    }
    atomic.write_json(draft.folder / MANIFEST, manifest)


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:12]
