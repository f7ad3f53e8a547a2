"""One line for each problem of ``params.yaml``: the key, what was found, what was expected."""

from __future__ import annotations

import difflib
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sid2core.config.registry import REFUSED, Choice, Kinds
from sid2core.config.yaml_read import shown

_MAX_LINES = 20


def lines(root: type[BaseModel], error: ValidationError) -> list[str]:
    """One line for each key of ``root`` that has a problem, in the order of its keys.

    A key that may be of several types has an error for each; the one of the type that was found
    is kept.
    """
    problems: dict[tuple[Any, ...], Any] = {}
    for item in error.errors():
        path = _without_types(root, item["loc"])
        known = problems.get(path)
        if known is None or _of_type(known) and not _of_type(item):
            problems[path] = item | {"loc": path}
    inner = {path[:length] for path in problems for length in range(len(path))}
    kept = [item for path, item in problems.items() if not (path in inner and _of_type(item))]
    return [_line(root, item) for item in kept]


def first(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - _MAX_LINES
    return lines if more <= 0 else [*lines[:_MAX_LINES], f"  ... and {more} more"]


def _of_type(item: Any) -> bool:
    """Whether the value is of another type, rather than out of range."""
    return bool(item["type"].endswith("_type"))


def _line(root: type[BaseModel], item: Any) -> str:
    path = item["loc"]
    name = ".".join(_key(part) for part in path) or "(the whole file)"
    if item["type"] == "extra_forbidden":
        siblings = _known_keys(root, path[:-1])
        near = difflib.get_close_matches(str(path[-1])[:100], siblings, n=1, cutoff=0.0)
        key = ".".join([*map(str, path[:-1]), *near])
        expected = _expected(root, [*path[:-1], *near])
        return f"  {name}: unknown key; the nearest known one is {key} ({expected})"
    if item["type"] == "missing":
        return f"  {name}: missing; expected {_expected(root, path)}"
    if item["type"] in ("value_error", REFUSED):
        return f"  {name}: {item['msg'].removeprefix('Value error, ')}"
    found = f"found {shown(item['input'])} ({type(item['input']).__name__})"
    reason = item["msg"][0].lower() + item["msg"][1:]
    return f"  {name}: {found}; expected {_expected(root, path)}: {reason}"


def _key(part: Any) -> str:
    """A key as a message shows it: a word as it is, anything else quoted, neither too long."""
    text = str(part)
    return text if len(text) <= 60 and text.isprintable() else shown(text, 40)


def _without_types(root: type[BaseModel], path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path of a key: pydantic adds the type that it tried where several are possible."""
    value: Any = root
    kept: list[Any] = []
    for part in path:
        several = _alternatives(value)
        if len(several) > 1:
            is_list = str(part).startswith("list[")
            value = next((one for one in several if is_list == (get_origin(one) is list)), None)
            continue
        kept.append(part)
        (value,) = several or (None,)
        value = get_args(value)[0] if get_origin(value) is list else _value_at(value, part)
    return tuple(kept)


def _alternatives(annotation: Any) -> list[Any]:
    """The types of an annotation apart from null, without their bounds."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _alternatives(arguments[0])
    if origin is Union or origin is UnionType:
        return [one for each in arguments for one in _alternatives(each)]
    return [] if annotation is type(None) else [annotation]


def _single(annotation: Any) -> Any:
    """The only type of an annotation apart from null, or the only section; None if it is open."""
    several = _alternatives(annotation)
    sections = [one for one in several if isinstance(one, type) and issubclass(one, BaseModel)]
    kept = several if len(several) == 1 else sections
    return kept[0] if len(kept) == 1 else None


def _known_keys(root: type[BaseModel], path: Any) -> list[str]:
    model = _model_at(root, path)
    return list(model.model_fields) if model else []


def _model_at(root: type[BaseModel], path: Any) -> type[BaseModel] | None:
    """The section that lives under ``path``, or None where no section does."""
    model: Any = root
    for part in path:
        model = _value_at(model, part)
    model = _single(model)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _value_at(model: Any, part: Any) -> Any:
    """What the key ``part`` of a section holds: its annotation, or a kind's schema; else None.

    A number is the place of an entry in a list.
    """
    if isinstance(part, int):
        lists = [one for one in _alternatives(model) if get_origin(one) is list]
        return get_args(lists[0])[0] if lists else None
    model = _single(model)
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
    if origin is Union or origin is UnionType:
        return " or ".join(_describe(argument) for argument in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Choice):
        return "a section with name, " + _one_of(annotation)
    return "a section"


def _one_of(choice: type[Choice]) -> str:
    return "one of " + ", ".join(choice.registry)
