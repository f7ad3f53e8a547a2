"""Whether DVC has recorded a result: in its lock file or run cache, and whole in its cache.

DVC writes ``dvc.lock`` after it has copied the outputs of a stage into its cache, where the listing
of a folder comes last. The run cache also has the stages of experiments that ran elsewhere.
"""

from __future__ import annotations

import configparser
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sid2core.pipeline import places
from sid2core.pipeline.dag import ARTIFACTS

LOCK = Path("dvc.lock")
MANIFEST = "manifest.json"
_SLACK_S = 60.0


def md5(path: Path) -> str:
    """The MD5 of a file, by which DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def stages(root: Path) -> dict[str, Any]:
    """The entries of ``dvc.lock`` in the project ``root`` by stage; none if it cannot be read."""
    lock = _yaml(root / LOCK)
    found = lock.get("stages") if isinstance(lock, dict) else None
    return found if isinstance(found, dict) else {}


def has(stage: str, manifest: str | None, since: float) -> bool:
    """Whether DVC has the artifact of ``stage`` whose manifest has this MD5.

    Args:
        stage: the stage.
        manifest: MD5 of the artifact's manifest; None if there was no artifact.
        since: when the stage ended, in seconds since 1970.
    """
    output = (ARTIFACTS / stage).as_posix()
    caches = [place / "files" / "md5" for place in _caches()]
    return manifest is not None and any(
        _holds(cache, digest, manifest)
        for digest in _outputs(output, stage, since)
        for cache in caches
    )


def _outputs(output: str, stage: str, since: float) -> Iterator[str]:
    """The MD5 of every ``output`` in the lock file, then in the newer entries of the run cache."""
    lock = _yaml(LOCK)
    if isinstance(lock, dict):
        yield from _digests(lock.get("stages", {}).get(stage, {}), output)
    for cache in _caches():
        for path in (cache / "runs").glob("*/*/*"):
            if path.stat().st_mtime > since - _SLACK_S:
                yield from _digests(_yaml(path), output)


def _digests(entry: Any, output: str) -> Iterator[str]:
    if isinstance(entry, dict):
        for out in entry.get("outs", []):
            if out.get("path") == output and "md5" in out:
                yield out["md5"]


def _holds(cache: Path, digest: str, manifest: str) -> bool:
    """Whether the folder ``digest`` is in the cache, with this manifest among its files."""
    try:
        listing = json.loads((cache / digest[:2] / digest[2:]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return {"md5": manifest, "relpath": MANIFEST} in listing


def _caches() -> list[Path]:
    """Where DVC's cache may be: its default place, and those that its configuration names."""
    folder = places.repository() / ".dvc"
    found = [folder / "cache"]
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(folder / name, encoding="utf-8")
        except configparser.Error:
            continue
        if value := parser.get("cache", "dir", fallback=""):
            found.append(folder / value.strip("'\""))
    return found


def _yaml(path: Path) -> Any:
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError, ValueError):
        return None
