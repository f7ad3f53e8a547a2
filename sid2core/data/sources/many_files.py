"""What sources of many files of one kind share: Parquet and WebDataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from sid2core import config
from sid2core.config.data import Named
from sid2core.data.decode.decoding import Decoded, Recipe
from sid2core.data.sources import classes, split_names
from sid2core.data.sources.fields import Asked
from sid2core.data.sources.protocol import beside, key_of
from sid2core.data.storage import globbing, paths
from sid2core.data.storage.globbing import File

_Source = TypeVar("_Source", bound="ManyFiles")


@dataclass(frozen=True)
class ManyFiles(Decoded):
    """Files with ``extension`` at ``path``: one, a folder of them, or a pattern."""

    extension: ClassVar[str]

    path: str
    recipe: Recipe
    parameter: str
    class_file: str | None = None
    asked: Asked = Asked()

    @classmethod
    def of(cls: type[_Source], settings: Named, *, data: config.Data, part: str) -> _Source:
        """The source: the files at the parameter ``part``."""
        key, path = key_of(data.source.name, part), paths.plain(getattr(settings, part))
        return cls(path, Recipe.of(data), key, settings.class_names, Asked.by(data))

    def stamp(self) -> str:
        """Of the files' names, sizes and times."""
        marks = [f"{file.name}\0{paths.mark(file.path)}" for file in self._files()]
        return paths.digest([*marks, paths.mark(self.class_file) if self.class_file else ""])

    @property
    def _where(self) -> str:
        return f"{self.parameter} {self.path}"

    def _listed_names(self) -> tuple[str, ...] | None:
        """The names in ``class_file``, if there is one."""
        if self.class_file is None:
            return None
        return classes.read_names(self.class_file, beside(self.parameter, "class_names"))

    def _files(self) -> list[File]:
        """The files; with a problem, the others among them.

        Raises:
            DataError: there is nothing, or there are files of several splits.
        """
        found = globbing.matching(self.path, self.parameter, self.extension)
        split_names.check_files(
            (file for file in found if file.problem is None), self._where, self.parameter
        )
        return found
