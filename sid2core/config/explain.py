"""One line for each problem of ``params.yaml``: the key, what was found, what was expected."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from sid2core.config.registry import REFUSED, Choice, Kinds


def line(root: type[BaseModel], item: Any) -> str:
    """One line for one of pydantic's errors in a value of ``root``."""
    path = item["loc"]
    name = ".".join(str(part) for part in path) or "(the whole file)"
    if item["type"] == "extra_forbidden":
        siblings = _known_keys(root, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), siblings, n=1, cutoff=0.0)
        key = ".".join([*map(str, path[:-1]), *near])
        expected = _expected(root, [*path[:-1], *near])
        return f"  {name}: unknown key; the nearest known one is {key} ({expected})"
    if item["type"] == "missing":
        return f"  {name}: missing; expected {_expected(root, path)}"
    if item["type"] in ("value_error", REFUSED):
        return f"  {name}: {item['msg'].removeprefix('Value error, ')}"
    found = f"found {item['input']!r} ({type(item['input']).__name__})"
    reason = item["msg"][0].lower() + item["msg"][1:]
    return f"  {name}: {found}; expected {_expected(root, path)}: {reason}"


def _known_keys(root: type[BaseModel], path: Any) -> list[str]:
    model = _model_at(root, path)
    return list(model.model_fields) if model else []


def _model_at(root: type[BaseModel], path: Any) -> type[BaseModel] | None:
    """The section that lives under ``path``, or None where no section does."""
    model: Any = root
    for part in path:
        model = _value_at(model, part)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _value_at(model: Any, part: Any) -> Any:
    """What the key ``part`` of a section holds: its annotation, or a kind's schema; else None."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return None
    if issubclass(model, Choice | Kinds) and part in model.registry:
        return model.registry[part].schema
    field = model.model_fields.get(str(part))
    return field.annotation if field else None


def _expected(root: type[BaseModel], path: Any) -> str:
    """The type of the key at ``path`` in the words of a YAML author."""
    if not path:
        return "a section"
    *parents, last = path
    while isinstance(last, int) and parents:
        *parents, last = parents
    model = _model_at(root, parents)
    if model and issubclass(model, Choice) and last == "name":
        return _one_of(model)
    value = _value_at(model, last)
    return "a known key" if value is None else _describe(value)


_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}


def _describe(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Annotated:
        return _describe(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is list:
        return f"list of {_describe(arguments[0])}"
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return " or ".join(_describe(argument) for argument in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Choice):
        return "a section with name, " + _one_of(annotation)
    return "a section"


def _one_of(choice: type[Choice]) -> str:
    return "one of " + ", ".join(choice.registry)
