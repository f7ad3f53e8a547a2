"""The formats of exports: adding one is adding a module and its row."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from typing_extensions import Protocol, runtime_checkable

from sid2core.exporting.exported import Exported, ExportError
from sid2core.exporting.names import Arrays, Shape

FORMATS = {
    "torch": "sid2core.exporting.pytorch",
    "stablehlo": "sid2core.exporting.stablehlo",
    "onnx": "sid2core.exporting.onnx",
}
"""The module of each format."""
FILES = Path(__file__).parent / "files"
"""What is copied into exports."""


@runtime_checkable
class Format(Protocol):
    """What the module of a format has.

    Attributes:
        SUMMARY: one line for `sid2 export --help` and the model card.
        LIBRARY: the library that loads it, as model cards name it.
        PACKAGES: what writing and checking import beside this project's own dependencies.
        ABSENT: packages that the process which checks the export must not import.
        PROGRAM: a file, in the export if its path is relative. It needs nothing of this project;
            its ``load(folder)`` gives an object with ``network(**inputs)`` and ``draw(**inputs)``,
            arrays to an array, for the inputs of :mod:`sid2core.exporting.cases`.
        FREE: whether ``draw`` takes any number of steps and any guidance.
    """

    SUMMARY: str
    LIBRARY: str
    PACKAGES: tuple[str, ...]
    ABSENT: tuple[str, ...]
    PROGRAM: Path
    FREE: bool

    def use(self, exported: Exported) -> str:
        """How to draw, in Markdown, for the model card."""
        ...

    def write(self, exported: Exported, folder: Path) -> None:
        """Write the format's files into an empty folder.

        It has ``export.json``, and for models of text their encoder's folder ``tokenizer``.

        Raises:
            ExportError: the model cannot be exported so.
        """
        ...

    def read(self, folder: Path, shapes: Mapping[str, Shape]) -> Arrays:
        """The weights of an export, as the project names and lays them out.

        Args:
            folder: the export.
            shapes: of the network's weights.

        Raises:
            WeightsError: a file is missing or damaged, or the weights are of another network; the
                first difference is named.
        """
        ...


def of_name(name: str, *, installed: bool = True) -> Format:
    """The module of a format.

    Args:
        name: a key of :data:`FORMATS`.
        installed: whether the packages that it needs must be there; reading needs none.

    Raises:
        ExportError: there is no such format, or a package that it needs is not installed.
    """
    if name not in FORMATS:
        msg = f"--format: found {name!r}; expected one of {', '.join(FORMATS)}"
        raise ExportError(msg)
    form = cast(Format, cast(Any, importlib.import_module(FORMATS[name])))
    missing = [one for one in form.PACKAGES if importlib.util.find_spec(one) is None]
    if installed and missing:
        msg = f"--format {name}: {', '.join(missing)} not found; install it: "
        raise ExportError(f"{msg}pip install -c constraints.txt -e '.[export]'")
    return form
