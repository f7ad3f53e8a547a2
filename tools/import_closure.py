"""Which of the project's files a stage's result hangs on: what it imports, directly or through."""

import ast
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("sid2core", "stages")

SCHEMA = {
    "sid2core/config/__init__.py",
    "sid2core/config/params.py",
    "sid2core/config/section.py",
    "sid2core/config/data.py",
    "sid2core/config/diffusion.py",
    "sid2core/config/explain.py",
    "sid2core/config/legacy.py",
    "sid2core/config/registry.py",
    "sid2core/config/training.py",
}
CANNOT_CHANGE_A_RESULT = {
    *SCHEMA,  # types and bounds; values are tracked in params.yaml itself
    "sid2core/atomic.py",
    "sid2core/errors.py",
    "sid2core/pipeline/launch.py",  # speed; and rounding, as another machine would
    "sid2core/pipeline/progress.py",
    "sid2core/pipeline/stage.py",
    "sid2core/training/failures.py",  # words
    "sid2core/training/samples.py",  # pictures that are no outputs
    "sid2core/training/signals.py",  # when, not what
    "sid2core/typing.py",
    "stages/__init__.py",  # the environment alone
}


def dependencies(stage: str) -> set[str]:
    """The files that ``dvc.yaml`` must name as dependencies of ``stage``."""
    seen: set[str] = set()
    todo = [f"stages/{stage}.py"]
    while todo:
        name = todo.pop()
        if name in seen or name in CANNOT_CHANGE_A_RESULT:
            continue  # nor can what such a file imports
        seen.add(name)
        todo.extend(imported(ROOT / name))
    code = {name for name in seen if not _only_docstring(ROOT / name)}
    data = {"sid2core/report/templates"} if "sid2core/report/page.py" in code else set()
    return code | data


def imported(path: Path) -> set[str]:
    """The project's files that ``path`` imports itself, packages' ``__init__`` included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            for end in range(1, len(parts) + 1):
                base = Path(*parts[:end])
                candidates = (base.with_suffix(".py"), base / "__init__.py")
                files |= {str(one) for one in candidates if (ROOT / one).is_file()}
    return files


def _only_docstring(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def rewrite(path: Path) -> None:
    """Put each stage's code dependencies into ``dvc.yaml``; everything else stays as it is."""
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    dag = yaml.load(path.read_text(encoding="utf-8"))
    for name, stage in dag["stages"].items():
        deps = stage["deps"]
        for index in reversed(range(len(deps))):
            if is_code(deps[index]):
                del deps[index]
        deps.extend(sorted(dependencies(name)))
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(dag, file)


def is_code(dependency: str) -> bool:
    """Whether a dependency is one this module answers for."""
    return dependency.startswith(("sid2core/", "stages/")) and dependency not in SCHEMA


if __name__ == "__main__":
    rewrite(ROOT / "dvc.yaml")
