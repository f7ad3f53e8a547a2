"""The file of a study, ``experiments/<name>.yaml``: its schema, and its variants.

It is as strict as ``params.yaml``: each key of the file is known, and each parameter that it sets
is checked together with the preset that it changes (:mod:`sid2core.studies.runs`).
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from sid2core import config
from sid2core.config import explain, yaml_edit
from sid2core.config.yaml_read import shown
from sid2core.studies.errors import StudyError

FOLDER = Path("experiments")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_KEY = re.compile(r"[a-z_]\w*(\.[a-z_0-9]\w*)*")


def _keys(values: dict[str, Any]) -> dict[str, Any]:
    """Parameters by their dotted keys."""
    wrong = [key for key in values if not _KEY.fullmatch(key)]
    if wrong:
        msg = f"{shown(wrong[0])} is not a key; write it as --set-param does, such as train.steps"
        raise ValueError(msg)
    if "seed" in values:
        msg = "seed is set by the list seeds; remove it here"
        raise ValueError(msg)
    return values


Values = Annotated[dict[str, Any], AfterValidator(_keys)]
Words = Annotated[str, Field(min_length=1)]


class Metric(config.Section):
    """What is compared: a number of a metrics file, or a curve of ``trajectory.csv``.

    ``path`` is FILE:KEY as DVC has it, such as ``reports/evaluate/metrics.json:base.fd_eval``. The
    sample count at the end of a key (``_1k``) may be left out.
    """

    name: Words
    path: Annotated[str, Field(pattern=r"^reports/[\w/]+\.json:[\w.]+$")] | None = None
    trajectory: Literal["no_guidance", "best_guidance"] | None = None

    @model_validator(mode="after")
    def _one(self) -> Metric:
        if (self.path is None) == (self.trajectory is None):
            raise ValueError("give path or trajectory, one of the two")
        return self

    @property
    def file(self) -> str:
        """The file of the experiment that has it."""
        return self.path.partition(":")[0] if self.path else "reports/evaluate/trajectory.csv"

    @property
    def key(self) -> str:
        """The number's name in its file, or the curve's."""
        return self.path.partition(":")[2] if self.path else str(self.trajectory)


class Claim(config.Section):
    """What is examined: ``order`` names variants, the one with the smallest value first.

    ``at`` is the share of the training at which a trajectory is compared; 1 is its end.
    """

    words: Words
    order: Annotated[list[str], Field(min_length=2)]
    measure: str | None = None
    at: Annotated[float, Field(gt=0, le=1)] = 1.0


class Study(config.Section):
    """A study.

    Attributes:
        title: its heading.
        source: which figure, table or section it reproduces, and what is published there.
        scale: why these data and sizes can decide the question.
        preset: the parameters that the variants change.
        target: the last stage that runs.
        params: keys that are set for every variant, whatever the preset.
        small_scale: keys that are set only together with the file's own preset.
        variants: named sets of keys.
        axes: key → values; each combination of them, and of `variants`, is a variant.
        seeds: values of `seed`; each variant runs once with each.
        measure: what is compared; claims are about the first one unless they name another.
        claims: what is examined.
        discussion: what to say about the result beside the conclusions.
    """

    title: Words
    source: Words
    scale: Words
    preset: Words
    target: Words = "evaluate"
    params: Values = {}
    small_scale: Values = {}
    variants: dict[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")], Values] = {}
    axes: Annotated[
        dict[str, Annotated[list[Any], Field(min_length=1)]], AfterValidator(_keys)
    ] = {}
    seeds: Annotated[list[config.Seed], Field(min_length=1)]
    measure: Annotated[list[Metric], Field(min_length=1)]
    claims: Annotated[list[Claim], Field(min_length=1)]
    discussion: Words | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds repeats an entry: {self.seeds}")
        names = list(self.combinations())
        if len(names) < 2:
            raise ValueError(f"there are {len(names)} variants; give at least two to compare")
        measures = [one.name for one in self.measure]
        if len(set(measures)) != len(measures):
            raise ValueError(f"measure repeats a name: {', '.join(measures)}")
        for claim in self.claims:
            for known, used in ((names, claim.order), (measures, [claim.measure or measures[0]])):
                for one in used:
                    if one not in known:
                        (near,) = difflib.get_close_matches(one, known, n=1, cutoff=0.0)
                        msg = f"claims name {shown(one)}; the nearest is {near} "
                        raise ValueError(f"{msg}(there are: {', '.join(known)})")
            if len(set(claim.order)) != len(claim.order):
                raise ValueError(f"a claim's order repeats an entry: {claim.order}")
        return self

    def combinations(self) -> dict[str, dict[str, Any]]:
        """Every variant: its name, and the keys that it sets.

        Raises:
            ValueError: two have the same name or the same values, or set a key twice.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, values in self.variants.items() or {"": {}}.items():
            for chosen in itertools.product(*self.axes.values()):
                point = dict(zip(self.axes, chosen, strict=True))
                twice = point.keys() & values.keys()
                if twice:
                    raise ValueError(f"{min(twice)} is in axes and in variants.{name}; keep one")
                full = "-".join(filter(None, [name, *map(_part, point.items())])) or "base"
                if full in found or {**values, **point} in found.values():
                    raise ValueError(f"the variant {full} occurs twice; remove one")
                found[full] = {**values, **point}
        return found


def _part(item: tuple[str, Any]) -> str:
    """``("diffusion.loss.sigmoid.bias", -2.0)`` → ``bias_m2.0``, fit for a Git reference."""
    key, value = item
    text = value if isinstance(value, str) else json.dumps(value)
    text = re.sub(r"-(?=\d)", "m", text)
    words = re.findall(r"[A-Za-z0-9.]+", text)
    return f"{key.rpartition('.')[2]}_{'_'.join(words).strip('.')}"


def names(folder: Path = FOLDER) -> list[str]:
    """All studies, in alphabetic order."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read(name: str, folder: Path = FOLDER) -> Study:
    """Read one study and check its form; :func:`sid2core.studies.runs.all_of` checks its values.

    Raises:
        StudyError: there is none of this name, or its file has an unknown, missing or wrong key.
    """
    known = names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        nearest = f"the nearest is {near[0]} (there are: {', '.join(known)})" if near else ""
        msg = f"no study {shown(name)} in {folder.absolute()}; {nearest}"
        raise StudyError(msg.rstrip("; "))
    path = folder / f"{name}.yaml"
    if not _NAME.fullmatch(name):
        msg = f"{path}: name it by lower-case letters, digits and single hyphens"
        raise StudyError(msg)
    try:
        raw = yaml_edit.load(path.read_text(encoding="utf-8"))
        return Study.model_validate(raw)
    except ValidationError as error:
        lines = explain.lines(Study, error)
        msg = "\n".join([f"{path} has {len(lines)} problem(s):", *explain.first(lines)])
        raise StudyError(msg) from None
    except (yaml_edit.OverlayError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise StudyError(msg) from None


def resolved(base: Mapping[str, Any], layers: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters with the dotted keys of each layer set, the later ones over the earlier.

    A value may depend on the value before it: ``{plus: 1}`` and ``{times: 0.5}`` change the key's
    own, or that of another key with ``of``; on a list they act on each entry. A whole number stays
    one. ``{fill: 0.1}`` puts the number into each entry of a list, with ``last: 2`` into the last
    two, with zeros before.

    Raises:
        StudyError: such a value cannot be computed.
    """
    params = dict(base)
    for layer in layers:
        computed = {key: _value(params, key, value) for key, value in layer.items()}
        for key, value in computed.items():
            params = yaml_edit.merged(params, _nested(key, value))
    return params


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _value(params: Mapping[str, Any], key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_value(params, key, one) for one in value]
    if not isinstance(value, dict) or not {"plus", "times", "fill"} & value.keys():
        return value
    try:
        if set(value) in ({"plus"}, {"plus", "of"}):
            return _each(_at(params, value.get("of", key)), lambda one: one + value["plus"])
        if set(value) in ({"times"}, {"times", "of"}):
            return _each(_at(params, value.get("of", key)), lambda one: one * value["times"])
        if set(value) in ({"fill"}, {"fill", "last"}):
            length = len(_at(params, key))
            last = min(value.get("last", length), length)
            return [0.0] * (length - last) + [value["fill"]] * last
    except (TypeError, KeyError) as error:
        msg = f"{key}: {shown(value)} cannot be computed ({error}); it needs a number in the preset"
        raise StudyError(msg) from None
    msg = f"{key}: found {shown(value)}; expected plus, times (each with of or without) or fill "
    raise StudyError(f"{msg}(with last or without)")


def _each(old: Any, change: Any) -> Any:
    if isinstance(old, list):
        return [_each(one, change) for one in old]
    if isinstance(old, bool) or old is None:
        raise TypeError(f"found {old}")
    new = change(old)
    return round(new) if isinstance(old, int) else float(new)


def _at(params: Mapping[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        value = value[part]
    return value


def lines_of(values: Mapping[str, Any]) -> Iterator[str]:
    """``key = value`` of each."""
    return (f"{key} = {json.dumps(value)}" for key, value in values.items())
