"""What the stage ``source`` records of files that are not DVC's, so that it sees their changes.

A file of the source counts by its name, size and modification time, or by its store's hash of it
(ETag), and none is opened: a copy with other times runs ``prepare`` once more, but its result
depends on content alone, so nothing is trained again, while a time that did not count would hide
edits. A file of prompts is short and counts by its content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

if TYPE_CHECKING:
    from sid2core import config

BUILT_IN = ("digits", "emoji", "moving_digits", "shapes")
"""Sources without files: their code and their parameters, which ``prepare`` tracks, say it all."""


def built_in(params: Path = Path("params.yaml")) -> str | None:
    """The source's name if it is one of :data:`BUILT_IN`, else None.

    Read without the schema of the parameters: to import that takes longer than all else that the
    stage does, and the stage runs at every command. None also where the file is wrong.
    """
    try:
        name = _raw(params)["data"]["source"]["name"]
    except (KeyError, TypeError):
        return None
    return name if name in BUILT_IN else None


def prompt_files(params: Path = Path("params.yaml")) -> dict[str, str]:
    """The SHA-256 of the files that ``eval.prompts`` and ``eval.captions`` name, by key.

    Of a folder, that of its text files one after the other. What is not there is left out: the
    stage ``params`` refuses it.
    """
    evaluation = _raw(params).get("eval")
    found = dict[str, str]()
    for key in ("prompts", "captions"):
        value = evaluation.get(key) if isinstance(evaluation, dict) else None
        if not isinstance(value, str) or "{" in value:
            continue
        path = Path(os.path.expanduser(value))
        files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
        if files and all(one.is_file() for one in files):
            content = b"\0".join(one.name.encode() + one.read_bytes() for one in files)
            found[f"eval.{key}"] = hashlib.sha256(content).hexdigest()
    return found


def _raw(params: Path) -> Mapping[str, Any]:
    """The parameters as they are written; none where the file is wrong."""
    try:
        found = YAML(typ="safe").load(params.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def stamps(data: config.Data) -> list[str]:
    """A hash of the names, sizes and times of the files of each split's source.

    Raises:
        DataError: they are not there, or cannot be listed.
    """
    from sid2core.data.sources import opening

    _check_not_empty(data)
    return [source.stamp() for source in opening.opened(data) if source is not None]


def _check_not_empty(data: config.Data) -> None:
    """Refuse a folder without anything in it, as a disk that is not mounted leaves it."""
    from sid2core.data.errors import DataError
    from sid2core.data.sources.protocol import key_of
    from sid2core.data.storage import paths

    for part in ("path", "eval_path"):
        path = paths.plain(getattr(data.source.settings, part, None) or "")
        if not os.path.isdir(path):
            continue
        with paths.trouble(path), os.scandir(path) as found:
            if next(found, None) is None:
                key = key_of(data.source.name, part)
                msg = f"{key} {path} is an empty folder; expected the data: mount or fetch them"
                raise DataError(msg)
