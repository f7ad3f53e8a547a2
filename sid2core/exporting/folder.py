"""The folder of an export: written beside its place, checked, and only then put there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import sid2core
from sid2core import atomic
from sid2core.exporting import card, formats
from sid2core.exporting.about import About
from sid2core.exporting.check import Difference, check
from sid2core.exporting.exported import Exported, ExportError
from sid2core.text.prompts import FOLDER as ENCODER

FILE = "export.json"
"""The format, the request, the settings of drawing, and ``config.json`` of the model."""
TOKENIZER = "tokenizer"
"""The folder of the text encoder, as it is beside the model's weights."""
VERSION = 1


def write(
    exported: Exported, name: str, target: Path, license: str | None = None
) -> list[Difference]:
    """Export in a format; an earlier export at ``target`` is replaced at the end.

    Args:
        exported: the model.
        name: of the format.
        target: a folder.
        license: of the weights, for the model card.

    Returns:
        How far the export is from our model.

    Raises:
        ExportError: the target is something else, the model cannot be exported so, or the export
            does not give what the model gives. Nothing is then left at the target.
    """
    form = formats.of_name(name)
    check_target(target)
    with atomic.unfinished(target) as place:
        place.mkdir()
        atomic.write_json(place / FILE, described(exported, name))
        if exported.trained.condition.text is not None:
            shutil.copytree(exported.trained.folder / ENCODER, place / TOKENIZER)
        form.write(exported, place)
        differences = check(form, exported, place)
        about = About.of(exported.trained, license)
        atomic.write_text(place / "README.md", card.text(exported, form, about, differences))
        atomic.put(place, target)
    return differences


def read(folder: Path) -> dict[str, Any]:
    """What :data:`FILE` of an export says.

    Raises:
        ExportError: the folder is not an export, or of a newer version.
    """
    path = folder / FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = found["sid2_export"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read ({error}); expected a folder that `sid2 export` wrote"
        raise ExportError(msg) from None
    if version > VERSION:
        msg = f"{path} is of version {version}, expected {VERSION} or less: use a newer sid2"
        raise ExportError(msg)
    return found


def check_target(target: Path) -> None:
    """Refuse to replace anything but an earlier export or an empty folder.

    Raises:
        ExportError: the target is something else.
    """
    if target.is_dir() and (not any(target.iterdir()) or (target / FILE).is_file()):
        return
    if target.exists() or target.is_symlink():
        msg = f"--to: {target} exists and is no export; expected a new folder, or an earlier export"
        raise ExportError(f"{msg}: name another folder")


def described(exported: Exported, name: str) -> dict[str, Any]:
    """What :data:`FILE` says of an export in the format ``name``."""
    return {
        "sid2_export": VERSION,
        "sid2": sid2core.__version__,
        "format": name,
        "class_names": list(exported.class_names),
        "request": json.loads(exported.request.to_json()),
        "sampling": exported.settings,
        "config": dict(exported.config),
    }
