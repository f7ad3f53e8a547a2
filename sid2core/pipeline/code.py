"""A hash of what a stage's program means: its modules without comments and docstrings.

The program of a stage is its module in ``stages`` and every module of the project that it imports,
directly or through others (the import closure), with the third-party packages that these import.
Each module counts by its syntax tree, so an edit of a comment, a docstring or the layout changes
nothing. Files that are not Python, such as the page's templates, count by their bytes.

Two more ways lead to a module. A string such as ``"sid2core.diffusion.losses:PowerLoss"`` names a
module that is imported on first use. The rows of a registry (:mod:`sid2core.config.registry`) name
classes in this way; they belong to the stages that track the registry's parameters, or whose inputs
were made by them. The modules of the parameter ``plugins`` belong to every stage.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sid2core.errors import Sid2Error
from sid2core.pipeline import dag
from sid2core.pipeline.dag import PROJECT, Declared

FOLDER = Path("artifacts/code")
PARAMS = Path("params.yaml")
CONSTRAINTS = Path("constraints.txt")
PLUGINS = "plugins"
WITHOUT_HASH = ("code", "params", "source")
"""Stages that do not depend on a hash: the one that writes them, the first check, and the one that
always runs."""

SCHEMA = "sid2core/config/"
"""Types and bounds of parameters cannot change a result: values are tracked in params.yaml."""
NOT_SCHEMA = ("sid2core/config/build.py", "sid2core/config/negative.py")
CANNOT_CHANGE_A_RESULT = {
    "sid2core/__init__.py",  # names for users
    "sid2core/atomic.py",
    "sid2core/checksums.py",
    "sid2core/errors.py",
    "sid2core/pipeline/code.py",
    "sid2core/pipeline/launch.py",  # speed; and rounding, as another machine would
    "sid2core/pipeline/places.py",
    "sid2core/pipeline/processes.py",
    "sid2core/pipeline/progress.py",
    "sid2core/pipeline/recorded.py",
    "sid2core/pipeline/stage.py",
    "sid2core/pipeline/verified.py",
    "sid2core/pipeline/workdir.py",
    "sid2core/training/failures.py",  # words
    "sid2core/training/samples.py",  # pictures that are no outputs
    "sid2core/training/signals.py",  # when, not what
    "sid2core/typing.py",
    "stages/__init__.py",
}
"""Nor can what such a module imports, unless it is imported elsewhere, too."""
PACKAGES_THAT_CANNOT = {
    "absl",
    "beartype",
    "clu",
    "filelock",
    "jaxtyping",
    "psutil",
    "ruamel",
    "tqdm",
}
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "orbax": "orbax-checkpoint",
    "ruamel": "ruamel.yaml",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
"""Where the name of the package differs from that of the module."""
_BROUGHT = {"jax": ("jaxlib",)}
"""Packages that others bring and that compute for them."""
_LAZY = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+):[A-Za-z_][\w.]*")
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}


class CodeError(Sid2Error):
    """The program of a stage cannot be found."""


@dataclass(frozen=True)
class Module:
    """What one file means and what it leads to.

    Attributes:
        digest: of its syntax tree, or of its bytes where it is not Python.
        empty: whether it has nothing but a docstring.
        imports: modules that it may import, dotted.
        packages: other top-level modules that it imports.
        rows: modules that the rows of its registries name, by the registry's key.
        builds: whether it makes objects from a registry.
    """

    digest: str
    empty: bool = False
    imports: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    rows: Mapping[str, frozenset[str]] = field(default_factory=dict)
    builds: bool = False


@dataclass(frozen=True)
class Program:
    """The program of one stage.

    Attributes:
        modules: digest by path, relative to the project.
        packages: version of each third-party package that can change a result.
    """

    modules: Mapping[str, str]
    packages: Mapping[str, str | None]

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        value = json.dumps([dict(self.modules), dict(self.packages)], sort_keys=True)
        return hashlib.sha256(value.encode()).hexdigest()

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """The modules and packages that differ from those of ``other``, as :meth:`to_json`."""
        return sorted(
            name
            for mine, theirs in (
                (self.modules, other.get("modules", {})),
                (self.packages, other.get("packages", {})),
            )
            for name in {*mine, *theirs}
            if mine.get(name) != theirs.get(name)
        )

    def to_json(self) -> dict[str, Any]:
        """As written into ``artifacts/code``."""
        return {
            "digest": self.digest,
            "modules": dict(sorted(self.modules.items())),
            "packages": dict(sorted(self.packages.items())),
        }


class Project:
    """The source files of a project; each is read once."""

    def __init__(self, root: Path = PROJECT, plugins: Iterable[str] = ()):
        """Find the modules that ``plugins`` names.

        Raises:
            CodeError: one of them does not exist.
        """
        self._root = root
        self._bases = {"sid2core": root, "stages": root}
        self._plugins = tuple(plugins)
        for name in self._plugins:
            self._bases.setdefault(name.partition(".")[0], _base(name))
        self._modules: dict[str, Module] = {}
        self._paths: dict[str, tuple[str, ...]] = {}

    def modules(self, stage: str, stages: Mapping[str, Declared]) -> dict[str, Module]:
        """Every file of the program of ``stage``, by path."""
        keys = _registry_keys(stage, stages)
        start = [f"stages.{stage}", *self._plugins]
        seen = self._closure(start, stage)
        if any(module.builds for module in seen.values()):
            seen = self._closure([*start, *self._registered(keys)], stage)
        return seen | self._data(seen)

    def program(
        self, stage: str, stages: Mapping[str, Declared], versions: Mapping[str, str]
    ) -> Program:
        """The program of ``stage``; packages have the version that ``versions`` gives."""
        modules = self.modules(stage, stages)
        names = {name for module in modules.values() for name in module.packages}
        names |= {brought for name in names for brought in _BROUGHT.get(name, ())}
        packages = {_DISTRIBUTIONS.get(name, name) for name in names - PACKAGES_THAT_CANNOT}
        return Program(
            {path: module.digest for path, module in modules.items() if not module.empty},
            {name: versions.get(normal(name)) for name in packages},
        )

    def _closure(self, names: Iterable[str], stage: str) -> dict[str, Module]:
        seen: dict[str, Module] = {}
        todo = [path for name in names for path in self._files(name)]
        while todo:
            path = todo.pop()
            if path not in seen and not _cannot_change(path, stage):
                seen[path] = self._read(path)
                todo += [found for name in seen[path].imports for found in self._files(name)]
        return seen

    def _registered(self, keys: Iterable[str]) -> Iterator[str]:
        """The modules that the rows of the registries under ``keys`` name."""
        for path in sorted((self._root / SCHEMA).rglob("*.py")):
            rows = self._read(path.relative_to(self._root).as_posix()).rows
            for key, modules in rows.items():
                if any(_overlap(key, one) for one in keys):
                    yield from modules

    def _data(self, seen: Mapping[str, Module]) -> dict[str, Module]:
        """Files that are not Python in the folders of these modules, and below."""
        found = dict[str, Module]()
        for folder in {Path(path).parent for path in seen}:
            base = self._bases[folder.parts[0]]
            for path in sorted((base / folder).iterdir()):
                if path.is_dir() and not any(path.rglob("*.py")) and path.name != "__pycache__":
                    files = [one for one in sorted(path.rglob("*")) if one.is_file()]
                    found |= {one.relative_to(base).as_posix(): _opaque(one) for one in files}
        return found

    def _files(self, name: str) -> tuple[str, ...]:
        """The files that importing ``name`` runs, packages' ``__init__`` included, as paths."""
        if name not in self._paths:
            self._paths[name] = tuple(self._existing(name))
        return self._paths[name]

    def _existing(self, name: str) -> Iterator[str]:
        parts = name.split(".")
        base = self._bases.get(parts[0])
        if base is None:
            return
        for end in range(1, len(parts) + 1):
            stem = Path(*parts[:end])
            for one in (stem.with_suffix(".py"), stem / "__init__.py"):
                if (base / one).is_file():
                    yield one.as_posix()

    def _read(self, path: str) -> Module:
        if path not in self._modules:
            base = self._bases[Path(path).parts[0]]
            self._modules[path] = parse((base / path).read_text(encoding="utf-8"), path)
        return self._modules[path]


def parse(source: str, path: str) -> Module:
    """What the Python file at ``path`` means.

    Raises:
        CodeError: it is not valid Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        msg = f"{path} is not valid Python ({error})"
        raise CodeError(msg) from error
    imports, bound = _imports(tree, path)
    digest = hashlib.sha256()
    for part in _meaning(tree):
        digest.update(part.encode())
        digest.update(b"\0")
    top = {name.partition(".")[0] for name in imports}
    registered = _rows(tree)
    named = {name for row in registered.values() for name in row}
    return Module(
        digest.hexdigest(),
        not _statements(tree.body),
        frozenset(imports | (_lazy(tree) - named)),
        frozenset(top - sys.stdlib_module_names - {"sid2core", "stages", PLUGINS}),
        registered,
        _builds(tree, bound),
    )


def _meaning(node: Any) -> Iterator[str]:
    """The parts of a syntax tree that are not empty, in one order for all versions of Python."""
    if isinstance(node, ast.Constant):
        yield f"{type(node.value).__name__} {node.value!r}"
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name not in _IGNORED and value is not None and value != []:
                yield name
                yield from _meaning(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for one in _statements(node):
            yield from _meaning(one)
        yield "]"
    else:
        yield repr(node)


def _statements(nodes: Iterable[Any]) -> list[Any]:
    """Without docstrings, which are expressions that are a constant and nothing else."""
    return [
        one
        for one in nodes
        if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
    ]


def _imports(tree: ast.Module, path: str) -> tuple[set[str], set[str]]:
    """The modules that may be imported anywhere in a file, and the names bound by imports."""
    package = Path(path).parts[:-1]
    names, bound = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
            bound |= {alias.asname or alias.name for alias in node.names}
    return names, bound


def _lazy(tree: ast.AST) -> set[str]:
    """Modules named by strings ``package.module:attribute``."""
    return {
        match[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if (match := _LAZY.fullmatch(node.value))
    }


def _rows(tree: ast.Module) -> dict[str, frozenset[str]]:
    """Of registries at the top level of a module: key → the modules that their rows name."""
    keys, found = dict[str, str](), dict[str, frozenset[str]]()
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="Registry"), args=[ast.Constant(value=str(key))]),
            ):
                keys[name] = key
    for call in ast.walk(tree):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="register")):
                if name in keys:
                    key = keys[name]
                    found[key] = found.get(key, frozenset()) | _lazy(call)
    return found


def _builds(tree: ast.Module, bound: set[str]) -> bool:
    """Whether something makes objects from a registry.

    It calls the method ``build`` of an object, not a function of a module; or it takes a row's
    target, ``REGISTRY[name].resolve()``.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Subscript(), attr="resolve")):
                return True
            case ast.Call(func=ast.Attribute(value=value, attr="build")):
                if not (isinstance(value, ast.Name) and value.id in bound):
                    return True
    return False


def _registry_keys(stage: str, stages: Mapping[str, Declared]) -> set[str]:
    """The parameters whose registries a stage may use: its own, and those of its inputs.

    Only ``prepare`` uses sources, and only ``distill`` forms: later stages read what they wrote.
    """
    inherited = {
        key
        for name in stages[stage].inputs
        for key in stages[name].params
        if not _overlap(key, "data") and not _overlap(key, "distill")
    }
    return {*stages[stage].params, *inherited}


def _overlap(key: str, other: str) -> bool:
    """Whether one key is the other, or a section that contains it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _cannot_change(path: str, stage: str) -> bool:
    if path in CANNOT_CHANGE_A_RESULT:
        return True
    return path.startswith(SCHEMA) and path not in NOT_SCHEMA and stage != "params"


def _base(plugin: str) -> Path:
    """The folder that contains the top-level package of a plugin."""
    top = plugin.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    places = [*(spec.submodule_search_locations or [])] if spec else []
    place = places[0] if places else spec.origin if spec else None
    if place is None:
        msg = (
            f"plugins: found {plugin!r}, expected a module that can be imported, such as "
            f"plugins.{plugin.rpartition('.')[2]} for the file plugins/"
            f"{plugin.rpartition('.')[2]}.py"
        )
        raise CodeError(msg)
    return Path(place).resolve().parent


def _opaque(path: Path) -> Module:
    return Module(hashlib.sha256(path.read_bytes()).hexdigest())


def pinned(path: Path) -> dict[str, str]:
    """Package → version, as a file of constraints has them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("#")[0].strip().partition("==") for line in lines)
    return {normal(name): version for name, equal, version in pairs if equal}


def normal(name: str) -> str:
    """A package's name as indexes compare it: lower case, with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Package → version in this environment."""
    return {normal(one.metadata["Name"]): one.version for one in importlib.metadata.distributions()}


def plugins(path: Path = PARAMS) -> tuple[str, ...]:
    """The parameter ``plugins``, read without checking any other one; without a file, none.

    Raises:
        CodeError: the file cannot be read, or the value is not a list of names of modules.
    """
    if not path.exists():
        return ()
    try:
        names = YAML(typ="safe").load(path.read_text(encoding="utf-8")).get(PLUGINS, [])
    except (OSError, YAMLError, AttributeError) as error:
        msg = f"{path} cannot be read ({error})"
        raise CodeError(msg) from error
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        msg = f"{PLUGINS}: found {names!r}, expected a list of names of modules"
        raise CodeError(msg)
    return tuple(names)


@functools.lru_cache(maxsize=32)
def running(stage: str) -> Program:
    """The program that this very process runs as ``stage``, with the installed packages."""
    return Project(plugins=plugins()).program(stage, dag.read(), installed())
