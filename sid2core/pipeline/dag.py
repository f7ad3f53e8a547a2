"""What ``dvc.yaml`` declares about a stage: the one place that says what a stage depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sid2core.errors import Sid2Error

FILE = Path("dvc.yaml")
PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the code that runs; it has a ``dvc.yaml``, too."""
ARTIFACTS = Path("artifacts")


class DagError(Sid2Error):
    """``dvc.yaml`` cannot be read, or does not fit the parameters."""


@dataclass(frozen=True)
class Declared:
    """One stage of ``dvc.yaml``.

    Attributes:
        params: the tracked keys of ``params.yaml``, such as ``seed`` or ``data.source``.
        deps: paths, in the file's order.
        inputs: the stages whose artifact folders are among ``deps``.
        outs: paths of its outputs, metrics and plots.
    """

    params: tuple[str, ...]
    deps: tuple[str, ...]
    inputs: tuple[str, ...]
    outs: tuple[str, ...]


def read(path: Path | None = None) -> dict[str, Declared]:
    """All stages by name.

    Without ``path`` it is the ``dvc.yaml`` of the current folder, where DVC starts stages, or that
    of the code where the current folder has none.

    Raises:
        DagError: the file is missing or not a valid ``dvc.yaml``.
    """
    path = path or (FILE if FILE.is_file() else PROJECT / FILE)
    try:
        stages = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
        return {name: _declared(stages, stage) for name, stage in stages.items()}
    except (OSError, YAMLError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} cannot be read ({error!r}); restore it, for example from git"
        raise DagError(msg) from error


def stage(name: str, stages: Mapping[str, Declared]) -> Declared:
    """The stage ``name`` of ``stages``.

    Raises:
        DagError: there is none.
    """
    if name not in stages:
        msg = f"{FILE} has no stage {name}; it has {', '.join(stages)}"
        raise DagError(msg)
    return stages[name]


def tracked(keys: tuple[str, ...], params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that ``keys`` name, nested as in ``params``.

    ``("seed", "data.source")`` → ``{"seed": 0, "data": {"source": …}}``.

    Raises:
        DagError: a key is not a parameter.
    """
    found: dict[str, Any] = {}
    for key in keys:
        value: Any = params
        place = found
        *sections, last = key.split(".")
        try:
            for section in sections:
                value = value[section]
                place = place.setdefault(section, {})
            place[last] = value[last]
        except (KeyError, TypeError):
            msg = f"{FILE} tracks the parameter {key}, which params.yaml does not have"
            raise DagError(msg) from None
    return found


def _declared(stages: Mapping[str, Any], stage: Mapping[str, Any]) -> Declared:
    deps = tuple(stage.get("deps", ()))
    paths = {(ARTIFACTS / name).as_posix(): name for name in stages}
    return Declared(
        tuple(stage.get("params", ())),
        deps,
        tuple(paths[path] for path in deps if path in paths),
        tuple(
            path if isinstance(path, str) else next(iter(path))
            for kind in ("outs", "metrics", "plots")
            for path in stage.get(kind, ())
        ),
    )
