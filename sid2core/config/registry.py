"""Registries: a kind of sampler, loss, source and so on is a class and a row in a table.

A section of ``params.yaml`` that offers a choice names one kind and has a sub-section for each::

    loss:
      name: sigmoid
      sigmoid: {bias: 4.0, bias_start: null, bias_steps: null}
      power: {bias: 4.0, levels: 2}

So one key selects a kind, and what is dumped (manifests, ``config.json``, fingerprints) contains
the chosen kind only. Code outside the package adds a kind with one call: :meth:`Registry.register`.
"""

from __future__ import annotations

import difflib
import importlib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from pydantic import SerializeAsAny, ValidationError, model_serializer, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from sid2core.config.section import ParamsError, Section
from sid2core.config.yaml_read import shown

REFUSED = "refused"
"""Type of the validation errors made here; their messages are complete sentences."""


@dataclass(frozen=True)
class FromFields:
    """A target that calls ``target(**fields of the settings, **context)``, such as a dataclass."""

    target: str
    """Where it is found, "package.module:attribute"."""

    def __call__(self, settings: Section, **context: Any) -> Any:
        """The object."""
        values = {name: getattr(settings, name) for name in type(settings).model_fields}
        return imported(self.target)(**values, **context)


@dataclass(frozen=True)
class Kind:
    """One row of a registry."""

    name: str
    schema: type[Section]
    target: str | Callable[..., Any]

    def resolve(self) -> Callable[..., Any]:
        """The callable that makes the object; a module is imported when it is first asked for.

        Raises:
            ParamsError: the module, or the attribute in it, does not exist.
        """
        return imported(self.target) if isinstance(self.target, str) else self.target


def imported(target: str) -> Callable[..., Any]:
    """The callable at "package.module:attribute".

    Raises:
        ParamsError: there is no such module, or no such attribute in it.
    """
    module, _, attribute = target.partition(":")
    try:
        found: Callable[..., Any] = operator.attrgetter(attribute)(importlib.import_module(module))
    except (ModuleNotFoundError, AttributeError) as error:
        msg = (
            f"cannot import {target!r} ({error}); "
            "register the kind with a target 'package.module:attribute' that exists"
        )
        raise ParamsError(msg) from error
    return found


class Registry:
    """The kinds that one section of ``params.yaml`` offers, by name and in order of registration.

    ``key`` is the section's place, such as ``diffusion.loss``.
    """

    def __init__(self, key: str):
        self.key = key
        self._kinds: dict[str, Kind] = {}

    def register(self, name: str, schema: type[Section], target: str | Callable[..., Any]) -> None:
        """Add a kind.

        Args:
            name: its name in ``params.yaml``, and that of its sub-section.
            schema: the fields of the sub-section; a :class:`Section` without fields takes nothing.
            target: called as ``target(settings, **context)`` to make the object; or where it is
                found, "package.module:attribute", which is imported on first use only.

        Raises:
            TypeError: ``schema`` is not a class derived from :class:`Section`.
            ValueError: the name is taken by another kind, or cannot be a key.
        """
        if not (isinstance(schema, type) and issubclass(schema, Section)):
            msg = f"{self.key}: the schema of {name!r} must derive from config.Section"
            raise TypeError(msg)
        if not name.isidentifier() or name == "name":
            msg = f"{self.key}: {name!r} cannot be the name of a kind; use a word such as my_kind"
            raise ValueError(msg)
        kind = Kind(name, schema, target)
        if self._kinds.setdefault(name, kind) != kind:
            msg = f"{self.key}: {name!r} is registered already; choose another name"
            raise ValueError(msg)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __getitem__(self, name: str) -> Kind:
        """The kind of this name.

        Raises:
            ParamsError: there is none; the message names the nearest and lists all.
        """
        if name not in self._kinds:
            msg = f"{self.key}: {self.unknown(name)}"
            raise ParamsError(msg)
        return self._kinds[name]

    def unknown(self, name: object) -> str:
        """What to say about a name that is not registered."""
        found = difflib.get_close_matches(str(name)[:100], list(self), n=1, cutoff=0.0)
        nearest = f"the nearest is {found[0]} " if found else ""
        return f"no kind {shown(name)}; {nearest}(there are: {', '.join(self) or 'none'})"

    def owners(self, key: str) -> list[str]:
        """The kinds whose sub-section has this key."""
        return [name for name, kind in self._kinds.items() if key in kind.schema.model_fields]


class Choice(Section):
    """One kind of a registry; a subclass sets ``registry``.

    Read from ``{name: X, X: {...}, Y: {...}}``. All sub-sections are checked. Those of kinds that
    are not chosen may be incomplete: keys that are missing or null there are needed by no one.
    """

    registry: ClassVar[Registry]

    name: str
    settings: SerializeAsAny[Section]
    """The chosen kind's sub-section."""

    def build(self, **context: Any) -> Any:
        """The object: the chosen kind's target, called with its settings and ``context``.

        Raises:
            ParamsError: the target raised a ValueError; the message names the sub-section.
        """
        make = self.registry[self.name].resolve()
        try:
            return make(self.settings, **context)
        except ValueError as error:
            msg = f"{self.registry.key}.{self.name}: {error}"
            raise ParamsError(msg) from error

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return {"name": self.name, self.name: self.settings.model_dump()}

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, raw: Any, handler: Callable[[Any], Choice]) -> Choice:
        if isinstance(raw, cls) or not isinstance(raw, Mapping):
            return handler(raw)
        name, registry = raw.get("name"), cls.registry
        problems: list[InitErrorDetails] = []
        if "name" not in raw:
            problems.append(InitErrorDetails(type="missing", loc=("name",), input=raw))
        elif not isinstance(name, str) or name not in registry:
            problems.append(_refused(("name",), registry.unknown(name), name))
        given = {key: value for key, value in raw.items() if key != "name"}
        if isinstance(name, str) and name in registry:
            given = {name: {}} | given
        sections: dict[str, Section] = {}
        for key, value in given.items():
            found, wrong = _read(registry, key, value)
            problems += [one for one in wrong if key == name or not _absent(one)]
            if found is not None:
                sections[key] = found
        if problems:
            raise _errors(cls, problems)
        return handler({"name": name, "settings": sections[str(name)]})


class Kinds(Section):
    """Any number of kinds of a registry, each in the sub-section of its name.

    A subclass sets ``registry``. A kind is not used while a key that it needs is null or missing.
    """

    registry: ClassVar[Registry]

    chosen: dict[str, SerializeAsAny[Section]]
    """The sub-sections of the kinds that are used, in the registry's order."""

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return {name: settings.model_dump() for name, settings in self.chosen.items()}

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, raw: Any, handler: Callable[[Any], Kinds]) -> Kinds:
        if isinstance(raw, cls) or not isinstance(raw, Mapping):
            return handler(raw)
        chosen: dict[str, Section] = {}
        problems: list[InitErrorDetails] = []
        for key, value in raw.items():
            found, wrong = _read(cls.registry, key, value)
            if found is not None and value is not None:
                chosen[key] = found
            elif wrong and all(map(_absent, wrong)):
                problems += _idle(cls.registry[key], value, wrong)
            else:
                problems += wrong
        if problems:
            raise _errors(cls, problems)
        return handler({"chosen": {name: chosen[name] for name in cls.registry if name in chosen}})


def _read(
    registry: Registry, key: Any, value: Any
) -> tuple[Section | None, list[InitErrorDetails]]:
    """The sub-section of one kind, or what is wrong with it; null is a section without keys."""
    if key not in registry:
        return None, [_refused((key,), _misplaced(registry, key), value)]
    try:
        schema = registry[key].schema
        return schema.model_validate({} if value is None else value), []
    except ValidationError as error:
        return None, [_located(registry, key, item) for item in error.errors()]


def _idle(kind: Kind, value: Any, wrong: list[InitErrorDetails]) -> list[InitErrorDetails]:
    """Optional keys that are set although the kind is not used."""
    needed = " and ".join(str(one["loc"][-1]) for one in wrong)
    optional = (
        name
        for name, field in kind.schema.model_fields.items()
        if type(None) in get_args(field.annotation) and isinstance(value, Mapping)
    )
    return [
        _refused(
            (kind.name, name),
            f"found {shown(value[name])}, which has no effect without {needed}; set {needed}, "
            f"or {name} to null",
            value[name],
        )
        for name in optional
        if value.get(name) is not None
    ]


def _absent(problem: InitErrorDetails) -> bool:
    """Whether it is that a value was not given."""
    kind = problem["type"]
    return (kind if isinstance(kind, str) else kind.type) == "missing" or problem["input"] is None


def _located(registry: Registry, kind: str, item: Any) -> InitErrorDetails:
    """The error of a sub-section as one of the whole choice."""
    place, message = item["loc"], item["msg"]
    if item["type"] == "extra_forbidden" and len(place) == 1:
        misplaced = _misplaced(registry, place[0], kind)
        if misplaced:
            return _refused((kind, *place), misplaced, item["input"])
    if item["type"] == "value_error":
        return _refused((kind, *place), message.removeprefix("Value error, "), item["input"])
    error = PydanticCustomError(item["type"], message)
    return InitErrorDetails(type=error, loc=(kind, *place), input=item["input"])


def _misplaced(registry: Registry, key: Any, kind: str | None = None) -> str | None:
    """Where a key belongs that is not known where it stands; None if it is not known anywhere."""
    owners = registry.owners(str(key))
    if owners:
        return f"unknown key; {key} belongs to {' and '.join(owners)}"
    if kind is None:
        return f"unknown key; {registry.unknown(key)}"
    if not registry[kind].schema.model_fields:
        return f"unknown key; {kind} has no parameters"
    return None


def _refused(place: tuple[Any, ...], message: Any, found: Any) -> InitErrorDetails:
    error = PydanticCustomError(REFUSED, message)
    return InitErrorDetails(type=error, loc=place, input=found)


def _errors(model: type[Section], problems: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data(model.__name__, problems)
