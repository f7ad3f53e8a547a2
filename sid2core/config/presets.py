"""Presets: one file per scale, ``conf/<name>.yaml``, merged into ``params.yaml`` by one command.

A file has three parts. ``extends`` names the file that it differs from: another preset, or a base
in ``conf/bases`` that several presets share. ``params`` are the differences. ``evidence`` says what
the network costs, what is published, what was measured here, and how each value is known.

The root, ``digits``, sets every key that a preset may set. So all presets set the same keys, and
nothing of one remains after the next.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from sid2core import atomic, config
from sid2core.config import checks, yaml_edit
from sid2core.errors import Sid2Error

FOLDER = Path("conf")
KINDS = ("stated", "quoted", "derived", "inferred", "ours")
"""How a value is known: stated in the supplement, quoted from the paper by an independent public
source, derived by arithmetic that is shown, inferred (our best reading), or ours (not the paper's
business)."""


class PresetError(Sid2Error):
    """There is no such preset, or its file cannot be used; the message says which and why."""


class Training(config.Section):
    """What training the base model takes."""

    images: config.Positive
    zettaflops: config.PositiveFloat


class Published(config.Section):
    """What the paper, or the data's authors, report; null where no figure is at hand."""

    fid: config.PositiveFloat | None
    fid_student_16: config.PositiveFloat | None
    fid_student_8: config.PositiveFloat | None = None
    fd_dinov2: config.PositiveFloat | None = None
    fd_dinov2_real: config.PositiveFloat | None = None
    """Of as many real images."""
    gflops_forward: config.PositiveFloat | None
    source: Annotated[str, Field(min_length=1)]


class Notes(config.Section):
    """How each value of a file is known, by key of ``params.yaml`` or of a section of it."""

    notes: dict[str, str]

    @model_validator(mode="after")
    def _kinds(self) -> Notes:
        for key, note in self.notes.items():
            if not re.match(rf"({'|'.join(KINDS)}): ", note):
                raise ValueError(f"notes.{key} must begin with one of {', '.join(KINDS)}, and ': '")
        return self


class Evidence(Notes):
    """What is known of a preset. ``ours`` and ``hardware`` are null until it has been run.

    ``classes`` is 0 and ``captions`` is true where a model is conditioned on captions alone.
    ``parameters`` includes a learned text encoder with the greatest vocabulary.
    """

    title: Annotated[str, Field(min_length=1)]
    classes: config.NonNegative
    captions: bool = False
    gflops_forward: config.PositiveFloat
    parameters: config.Positive
    training: Training
    published: Published
    ours: dict[str, config.Finite] | None
    hardware: str | None
    command: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _together(self) -> Evidence:
        if (self.ours is None) != (self.hardware is None):
            raise ValueError("ours and hardware go together: both null, or both given")
        return self


class Base(config.Section):
    """What a file holds: the file it extends, the notes on its own values, and the values."""

    extends: Annotated[str, Field(min_length=1)] | None = None
    evidence: Notes
    params: dict[str, Any]


class _File(Base):
    evidence: Evidence


@dataclass(frozen=True)
class Preset:
    """One preset as read from its file."""

    name: str
    path: Path
    evidence: Evidence
    """Its own, with the notes of the files that it extends."""
    params: Mapping[str, Any]
    """The overlay, with that of the files that it extends: a nested mapping of keys."""

    def note(self, key: str) -> str | None:
        """How the value of ``a.b.c`` is known: its own note, or that of ``a.b``, or of ``a``."""
        while key:
            if key in self.evidence.notes:
                return self.evidence.notes[key]
            key = key.rpartition(".")[0]
        return None


@dataclass(frozen=True)
class Change:
    """What a preset makes of ``params.yaml``; nothing is written before :meth:`write`."""

    path: Path
    before: str
    after: str
    differences: tuple[str, ...]
    """``key: old -> new``, one a value."""
    params: config.Params

    def write(self) -> None:
        """Put the new text in place of the old, all of it or nothing."""
        if self.after != self.before:
            atomic.write_text(self.path, self.after)


def names(folder: Path = FOLDER) -> list[str]:
    """All presets, in alphabetic order.

    Raises:
        PresetError: there is none.
    """
    found = sorted(path.stem for path in folder.glob("*.yaml"))
    if not found:
        msg = f"no preset in {folder.absolute()}; run from the project's root"
        raise PresetError(msg)
    return found


def read(name: str, folder: Path = FOLDER) -> Preset:
    """Read one preset and check its form; its values are checked by :func:`change`.

    Raises:
        PresetError: there is none of this name, or its file is malformed.
    """
    known = names(folder)
    if name not in known:
        (near,) = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        msg = f"no preset {name!r}; the nearest is {near} (there are: {', '.join(known)})"
        raise PresetError(msg)
    path = folder / f"{name}.yaml"
    own = _parsed(path, _File)
    assert isinstance(own, _File)
    params, notes = dict(own.params), own.evidence.notes
    for base in _bases(path, own, folder):
        params = yaml_edit.merged(base.params, params)
        notes = base.evidence.notes | notes
    return Preset(name, path, own.evidence.model_copy(update={"notes": notes}), params)


def _bases(path: Path, file: Base, folder: Path) -> Iterator[Base]:
    """The files that ``file`` extends, the nearest first.

    Raises:
        PresetError: one does not exist, is malformed, or extends itself.
    """
    seen = [path]
    while file.extends is not None:
        path = folder / f"{file.extends}.yaml"
        if path in seen:
            msg = f"{seen[-1]} extends {file.extends}, which extends it; remove one extends"
            raise PresetError(msg)
        if not path.is_file():
            msg = f"{seen[-1]} extends {file.extends}, but there is no {path}; "
            msg += f"name a file in {folder}, without its ending"
            raise PresetError(msg)
        seen.append(path)
        file = _parsed(path, Base if path.parent != folder else _File)
        yield file


def _parsed(path: Path, kind: type[Base]) -> Base:
    """One file, its form checked."""
    try:
        return kind.model_validate(yaml_edit.load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        msg = f"{path} is not a preset: {'; '.join(problems)}"
        raise PresetError(msg) from None
    except (yaml_edit.OverlayError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise PresetError(msg) from None


def change(preset: Preset, path: Path = config.PARAMS_FILE) -> Change:
    """What ``preset`` makes of the parameters at ``path``, checked as a whole.

    Raises:
        PresetError: the file at ``path`` is missing or cannot be edited.
        ParamsError: the result has an unknown, ill-typed or out-of-range key, or keys that cannot
            work together.
    """
    try:
        before = path.read_text(encoding="utf-8")
        old = yaml_edit.load(before)
    except FileNotFoundError:
        msg = f"{path} not found in {Path.cwd()}; run from the project's root"
        raise PresetError(msg) from None
    except (yaml_edit.OverlayError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise PresetError(msg) from None
    new = yaml_edit.merged(old, preset.params)
    origin = f"{path} with {preset.path}"
    params = config.parse(new, origin)
    checks.check(params, origin)
    try:
        after = yaml_edit.write_into(before, preset.params)
    except yaml_edit.OverlayError as error:
        msg = f"{path} cannot take {preset.path}: {error}"
        raise PresetError(msg) from None
    return Change(path, before, after, tuple(yaml_edit.differences(old, new)), params)
